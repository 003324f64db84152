"""Metrics and their configuration (drop-in for `tunix.perf.metrics`)."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from perf._model.metrics import MetricsBuffer, MetricsT
from perf._model.tree import Span, SpanGroup
from perf._read.query import PerfSpanQuery
from perf._write.files import TraceFiles
from perf._write.tags import TagRules

__all__ = [
    "MetricsBuffer",
    "MetricsT",
    "PerfMetricsConfig",
    "PerfMetricsOptions",
    "PerfSpanQuery",
    "Span",
    "SpanGroup",
    "load_config",
    "load_section",
]

_SECTIONS = ("rl_training_config", "training_config")
_OPTIONS = "perf_metrics_options"
_FILES = "trace_files"
_CONTENT = "keep_content"
_KNOWN = {_OPTIONS, _FILES, _CONTENT}


@dataclasses.dataclass(frozen=True)
class PerfMetricsOptions:
    """What to measure and where to write it.

    Attributes:
        enable_perf_v1: record groups and spans for `PerfSpanQuery`.
        enable_perf_v2: record timelines with tags.
        custom_export_fn_path: dotted path of an export function for v1, instead of
            the built-in one.
        custom_export_fn_path_v2: likewise for v2.
        enable_trace_writer: write Perfetto traces.
        trace_dir: where to; empty for the default folder.

    Raises:
        ValueError: a path for a version that is off, a writer with both off, or an
            option of the wrong type.
    """

    enable_perf_v1: bool = True
    enable_perf_v2: bool = False
    custom_export_fn_path: str = ""
    custom_export_fn_path_v2: str = ""
    enable_trace_writer: bool = True
    trace_dir: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, expected = getattr(self, field.name), type(field.default)
            if not isinstance(value, expected):
                raise ValueError(
                    f"{field.name}={value!r}: expected {expected.__name__}, "
                    f"found {type(value).__name__}"
                )
        for path, version in (
            ("custom_export_fn_path", "enable_perf_v1"),
            ("custom_export_fn_path_v2", "enable_perf_v2"),
        ):
            if getattr(self, path) and not getattr(self, version):
                raise ValueError(
                    f"{path}={getattr(self, path)!r} is never called while {version} "
                    "is False: switch it on or leave the path out"
                )
        if self.enable_trace_writer and not (
            self.enable_perf_v1 or self.enable_perf_v2
        ):
            raise ValueError(
                "enable_trace_writer is True, but enable_perf_v1 and enable_perf_v2 "
                "are False: there is nothing to write"
            )
        if self.trace_dir and not self.enable_trace_writer:
            logging.getLogger("perf").warning(
                "trace_dir=%r is not used: enable_trace_writer is False", self.trace_dir
            )

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> PerfMetricsOptions:
        """From a parsed YAML section.

        Raises:
            ValueError: an unknown key (the message names it and those there are), or
                what the constructor refuses.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(str(key) for key in options if key not in known)
        if unknown:
            raise ValueError(
                f"{_OPTIONS}: unknown keys {unknown}; known are {', '.join(known)}"
            )
        return cls(**options)


@dataclasses.dataclass
class PerfMetricsConfig:
    """The export functions of a run; None leaves a version switched off.

    Attributes:
        custom_export_fn: from a `PerfSpanQuery` to metrics, once a global step (v1).
        custom_export_fn_v2: from a mapping of timelines to metrics (v2).
    """

    custom_export_fn: Callable[[PerfSpanQuery], MetricsT] | None = None
    custom_export_fn_v2: Callable[[Mapping[str, Any]], MetricsT] | None = None


def load_config(
    source: str | os.PathLike[str] | Mapping[str, Any] | PerfMetricsOptions,
    cluster_config: Any = None,
) -> PerfMetricsConfig:
    """The configuration that YAML options stand for, with its export functions.

    Args:
        source: a YAML file; or its content: a mapping with `perf_metrics_options`,
            on its own or under `rl_training_config` (or `training_config`), or those
            options themselves. The defaults hold where there are none, which is logged
            if there is something else. `trace_files` beside `perf_metrics_options`
            holds the arguments of a `perf.perfetto.TraceFiles`, and `keep_content` the
            names of tags with prompts, completions and the like that are written.
        cluster_config: gives the built-in functions the devices of each role:
            anything with `role_to_mesh`, a mapping of roles ("rollout", "actor",
            "reference") to meshes or devices. Not needed if all are custom.

    Raises:
        ValueError: an unknown key, a wrong type, a path that does not import or is
            not callable, a file that is no YAML mapping, or no cluster configuration
            where one is needed; the message names it.
        OSError: the file cannot be read.
    """
    writing = load_section(source)
    options: PerfMetricsOptions = writing.pop(_OPTIONS)
    _say_what_is_not_used(options, writing)
    config = PerfMetricsConfig()
    if options.enable_perf_v1:
        if options.custom_export_fn_path:
            config.custom_export_fn = _imported(
                "custom_export_fn_path", options.custom_export_fn_path
            )
        else:
            from perf.export import PerfMetricsExport

            config.custom_export_fn = PerfMetricsExport.from_options(
                options, cluster_config, **writing
            )
    if options.enable_perf_v2:
        if options.custom_export_fn_path_v2:
            config.custom_export_fn_v2 = _imported(
                "custom_export_fn_path_v2", options.custom_export_fn_path_v2
            )
        else:
            from perf.experimental.export import PerfMetricsExport as ExportV2

            config.custom_export_fn_v2 = ExportV2.from_cluster_config(
                cluster_config,
                options.enable_trace_writer,
                options.trace_dir,
                **writing,
            ).export_metrics
    return config


def load_section(
    source: str | os.PathLike[str] | Mapping[str, Any] | PerfMetricsOptions,
) -> dict[str, Any]:
    """What `load_config` takes from a source, read and checked.

    Returns:
        A source in its turn: `perf_metrics_options` is a `PerfMetricsOptions`, which
        may be replaced by another; beside it is what the source has beside it.

    Raises:
        ValueError, OSError: as `load_config`.
    """
    if isinstance(source, PerfMetricsOptions):
        return {_OPTIONS: source}
    content: Any = source
    if not isinstance(source, Mapping):
        content = _yaml(source)
    for section in _SECTIONS:
        if section in content:
            outside = [k for k in (_OPTIONS, _FILES, _CONTENT) if k in content]
            if outside:
                raise ValueError(f"{outside[0]} beside {section}: expected it in there")
            content = _mapping(section, content[section])
            break
    _refuse_misspelt(content)
    if content and not _is_bare(content) and not _KNOWN & set(content):
        logging.getLogger("perf").warning(
            "no %s in the configuration: the defaults hold. They were looked for at "
            "the top and under %s; found there: %s",
            _OPTIONS,
            " and ".join(_SECTIONS),
            ", ".join(map(str, content)),
        )
    options = content.get(_OPTIONS, content if _is_bare(content) else {})
    if not isinstance(options, PerfMetricsOptions):
        options = PerfMetricsOptions.from_mapping(_mapping(_OPTIONS, options))
    found: dict[str, Any] = {_OPTIONS: options}
    if _FILES in content:
        files = content[_FILES]
        if not isinstance(files, TraceFiles):
            files = TraceFiles.from_mapping(_mapping(_FILES, files))
        found[_FILES] = files
    if content.get(_CONTENT) is not None:
        found[_CONTENT] = TagRules.of(None, content[_CONTENT]).keep
    return found


def _refuse_misspelt(content: Mapping[str, Any]) -> None:
    """A configuration may have none of these keys, but not almost."""
    for key, value in content.items():
        if isinstance(value, Mapping) and _OPTIONS in value:
            raise ValueError(
                f"{_OPTIONS} under {key!r}: expected it under {_SECTIONS[0]!r}"
            )
        near = difflib.get_close_matches(str(key), sorted(_KNOWN), 1, 0.85)
        if near and key not in _KNOWN:
            raise ValueError(f"unknown key {key!r}: did you mean {near[0]!r}?")


def _say_what_is_not_used(
    options: PerfMetricsOptions, writing: Mapping[str, Any]
) -> None:
    """It is the built-in export functions that write traces."""
    built_in = [
        options.enable_perf_v1 and not options.custom_export_fn_path,
        options.enable_perf_v2 and not options.custom_export_fn_path_v2,
    ]
    unused = [*(["trace_dir"] if options.trace_dir else []), *writing]
    if unused and not any(built_in):
        logging.getLogger("perf").warning(
            "%s: not used: the export functions are your own, and the built-in ones "
            "write the trace. Set the environment variable RLPERF_DIR to have one.",
            ", ".join(unused),
        )


def _is_bare(content: Mapping[str, Any]) -> bool:
    """Whether these are the options themselves."""
    return bool(
        {field.name for field in dataclasses.fields(PerfMetricsOptions)} & set(content)
    )


def _yaml(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    import yaml

    with open(path, encoding="utf-8") as file:
        try:
            content = yaml.safe_load(file)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{os.fspath(path)} is no YAML: {error}") from error
    return _mapping(os.fspath(path), content)


def _mapping(where: str, content: Any) -> Mapping[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{where}: expected a mapping of keys to values, "
            f"found {type(content).__name__} {content!r}"
        )
    return content


def _imported(option: str, path: str) -> Any:
    module_name, _, name = path.rpartition(".")
    try:
        # An attribute of an attribute is found too: `package.module.Class.method`.
        found: Any = None
        parts = path.split(".")
        for end in range(len(parts) - 1, 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:end]))
            except ModuleNotFoundError as error:
                if error.name and not path.startswith(error.name):
                    raise
                continue
            for part in parts[end:]:
                found = getattr(found, part)
            break
        else:
            raise ImportError(f"no module named {module_name or name!r}")
    except Exception as error:
        raise ValueError(f"{option}={path!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(
            f"{option}={path!r} is not callable: it is a {type(found).__name__}"
        )
    return found
