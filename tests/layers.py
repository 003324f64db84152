"""The import table: what the modules of each layer may import."""

from __future__ import annotations

import dataclasses
from pathlib import Path

ROOT = Path(__file__).parent.parent
ANYTHING = frozenset({"*"})


@dataclasses.dataclass(frozen=True)
class Layer:
    """What the modules of one layer may import beside the standard library.

    Modules of one folder may always import each other.
    """

    perf: frozenset[str] = frozenset()
    """Other layers of this package."""
    outside: frozenset[str] = frozenset()
    """Packages from elsewhere."""
    lazily: frozenset[str] = frozenset()
    """Likewise, but only inside functions or for type checkers."""


PROTOBUF = frozenset({"google.protobuf", "perfetto"})
NUMPY = frozenset({"numpy"})
BELOW_DOORS = frozenset(
    {"_model", "_record", "_read", "_write", "adapters", "collect", "loggers"}
)

LAYERS = {
    "_model": Layer(outside=NUMPY),
    "_record": Layer(perf=frozenset({"_model"})),
    "_read": Layer(perf=frozenset({"_model"}), outside=NUMPY),
    "_read.device_profile": Layer(
        perf=frozenset({"_model"}), lazily=frozenset({"jax"})
    ),
    "_read.packets": Layer(perf=frozenset({"_model"}), lazily=PROTOBUF),
    "_write": Layer(perf=frozenset({"_model"}), lazily=frozenset({"etils"})),
    "report": Layer(perf=frozenset({"_model", "_read"}), outside=NUMPY),
    "adapters": Layer(perf=frozenset({"_model", "_record"}), lazily=ANYTHING),
    "adapters.jax_profiles": Layer(
        perf=frozenset({"_model", "_read", "_record"}), lazily=frozenset({"jax"})
    ),
    "adapters.tunix": Layer(
        perf=frozenset({"_model", "_record", "doors"}), lazily=ANYTHING
    ),
    "collect": Layer(perf=frozenset({"_model"}), outside=NUMPY),
    "loggers": Layer(
        perf=frozenset({"_model"}), outside=NUMPY, lazily=frozenset({"tqdm", "yaml"})
    ),
    "loggers.backends": Layer(
        perf=frozenset({"_model"}), outside=NUMPY, lazily=ANYTHING
    ),
    "compat": Layer(perf=frozenset({"collect", "loggers"}), lazily=ANYTHING),
    "doors": Layer(perf=BELOW_DOORS, outside=NUMPY, lazily=ANYTHING),
    "demo": Layer(
        perf=BELOW_DOORS - {"_model", "_record"} | {"doors"}, outside=ANYTHING
    ),
    "cli": Layer(
        perf=BELOW_DOORS - {"_model", "_record"} | {"demo", "doors", "report"},
        outside=ANYTHING,
    ),
}
"""By the path of a folder or module in perf/; the longest that fits counts.

`doors` are the public paths: modules right under perf/, and perf/experimental/.
"""


def layer_of(module: str) -> str:
    """The key in `LAYERS` for a module of perf."""
    parts = module.split(".")[1:]
    for length in range(len(parts), 0, -1):
        if (path := ".".join(parts[:length])) in LAYERS:
            return path
    return "cli" if parts == ["__main__"] else "doors"


def sources(folder: str = "perf") -> dict[str, str]:
    """The source of every module in a folder, by the module's name."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found
