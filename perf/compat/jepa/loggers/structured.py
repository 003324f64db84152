"""`jepa.loggers.structured`: records that are checked before they are logged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from perf.compat.jepa.loggers.base_logger import BaseLogger
from perf.loggers.config import ConfigError, checked, fits, section
from perf.loggers.guard import never_raises
from perf.loggers.records import make_record
from perf.loggers.values import flatten_metrics, kept

__all__ = ["SchemaError", "StructuredLogger"]

_TYPES: Final[dict[str, Any]] = {
    "boolean": bool,
    "dict": Mapping,
    "float": float,
    "integer": int,
    "list": list,
    "number": float,
    "string": str,
}


class SchemaError(ConfigError):
    """A record that is not as the schema says; the message names the field."""


class StructuredLogger(BaseLogger):
    """Writes records that are as a schema says, each as a line of JSON.

    Args:
        config: `schema`: by field its `type` (boolean, dict, float, integer, list,
            number, string), whether it is `required`, and for a dict the `schema` of
            its fields. `path`, of the file ("logs/structured.jsonl").
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self._schema = section("schema", self.config.pop("schema", None))
        _check_schema("schema", self._schema)
        path = "logs/structured.jsonl"
        self._log_to("jsonl", {"path": path, "texts": True, **self.config})

    def log_structured(
        self, record: Mapping[str, Any], step: int | None = None
    ) -> None:
        """Logs a record; a field b of a dict a is named "a/b", an empty one `{}`.

        Raises:
            SchemaError: it is not as the schema says: to find that is what a schema is
                for, so this raises unlike other methods.
        """
        for error in _errors("", record, self._schema):
            raise error
        self._write(record, step)

    @never_raises
    def _write(self, record: Mapping[str, Any], step: int | None) -> None:
        flat = flatten_metrics(record, keep_empty=True)
        values = {name: kept(value) for name, value in flat.items()}
        made = make_record(values, step=step)
        if self._changes.filter(made):
            self._emit(made)


def _errors(
    where: str, record: Mapping[str, Any], schema: Mapping[str, Any]
) -> Iterator[SchemaError]:
    for name in record.keys() - schema.keys():
        yield SchemaError(f"{where}{name}", "no field of this name", "one")
    for name, rules in schema.items():
        kind, value = rules.get("type"), record.get(name)
        if value is None:
            if rules.get("required"):
                yield SchemaError(f"{where}{name}", kind or "a value", "nothing")
        elif kind and not fits(value, _TYPES[kind]):
            yield SchemaError(f"{where}{name}", kind, type(value).__name__)
        elif "schema" in rules:
            yield from _errors(f"{where}{name}.", value, rules["schema"])


def _check_schema(where: str, schema: Mapping[str, Any]) -> None:
    for name in schema:
        field = f"{where}.{name}"
        rules = checked(field, section(field, schema[name]), _rules)
        if rules.get("type", "dict") not in _TYPES:
            raise ConfigError(f"{field}.type", f"one of {', '.join(_TYPES)}", "another")
        _check_schema(field, rules.get("schema", {}))


def _rules(
    type: str = "", required: bool = False, schema: Mapping[str, Any] | None = None
) -> None:
    """What a schema may say of a field."""
