"""Reads the file of an offline run of W&B by its own format.

A file is blocks of 32 KiB after a header of 7 bytes. A record is a checksum, a length,
a type (whole, first, middle, last part) and bytes of a protobuf message, `Record`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEADER = 7
_BLOCK = 32 * 1024
_WHOLE, _FIRST, _LAST = 1, 2, 4


def records(path: Path) -> Iterator[Any]:
    """The records of a file."""
    from wandb.proto import wandb_internal_pb2 as proto

    data = path.read_bytes()
    position, parts = _HEADER, bytearray()
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", data, position)
        position += _HEADER
        parts += data[position : position + length]
        position += length
        if kind in (_WHOLE, _LAST):
            record = proto.Record()
            record.ParseFromString(bytes(parts))
            parts.clear()
            yield record


def history(path: Path) -> Iterator[dict[str, Any]]:
    """The rows that were logged."""
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            yield {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }


def run(path: Path) -> Any:
    """The run's own record: name, id, project, tags, notes, config."""
    found = None
    for record in records(path):
        if record.WhichOneof("record_type") == "run":
            found = record.run
    return found


def config(path: Path) -> dict[str, Any]:
    """The run's config, later changes included."""
    found: dict[str, Any] = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "config":
            updates = record.config.update
        elif kind == "run":
            updates = record.run.config.update
        else:
            continue
        for item in updates:
            key = item.key or "/".join(item.nested_key)
            found[key] = json.loads(item.value_json)
    return found
