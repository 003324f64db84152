"""What it takes to turn records into bytes of a trace."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import count
from time import perf_counter_ns as now
from typing import Any, Final

from benchmarks.timing import Case, Reading, interleaved
from perf._model.spans import (
    NO_PARENT,
    SPAN,
    Batch,
    ClockSnapshot,
    RawRecord,
    TimelineInfo,
    TimelineKind,
)
from perf._model.tracks import Process
from perf._write.layout import V2Layout
from perf._write.stream import TraceStream

_ROUNDS: Final = 100
_PEERS_ROUNDS: Final = 20
_THREAD: Final = TimelineInfo("host-1", TimelineKind.HOST, "MainThread", True, 1)
_ASYNC: Final = frozenset([_THREAD.id])
"""Timelines whose spans need not nest, as those of coroutines."""
_NAMES: Final = ("rollout", "reference_inference", "peft_train", "weight_sync")
_FIXED: Final = struct.Struct("<HQQ")
_LARGE, _SMALL = 1_000, 50


def measure(subject: str) -> dict[str, Reading]:
    """Readings in microseconds per slice: its begin and its end."""
    encoding = _ours if subject == "ours" else _protobuf
    cases = {
        "floor": _case(_fixed_width, _LARGE),
        "1000": _case(encoding(), _LARGE),
        "50": _case(encoding(), _SMALL),
        "tag": _case(encoding(), _LARGE, {"step": 7}),
        "tags": _case(encoding(), _LARGE, {"step": 7, "role": "actor", "loss": 0.5}),
    }
    if subject == "ours":
        cases["lanes"] = _case(_ours(_ASYNC), _LARGE)
    rounds = _ROUNDS if subject == "ours" else _PEERS_ROUNDS
    found = interleaved(cases, rounds=rounds)
    return {n: found[n].reading(1e3, found["floor"]) for n in cases if n != "floor"}


def _case(
    encode: Callable[[list[RawRecord]], bytes],
    size: int,
    tags: dict[str, Any] | None = None,
) -> Case:
    blocks = _blocks(size, tags)
    next_block: list[list[RawRecord]] = []

    def run(_: int) -> int:
        block = next_block.pop()
        begin_ns = now()
        encode(block)
        return now() - begin_ns

    return Case(run, before=lambda: next_block.append(next(blocks)), count=size)


def _blocks(size: int, tags: dict[str, Any] | None) -> Iterator[list[RawRecord]]:
    """Spans of one thread, one after the other, ten of them around nine others."""
    ids = count(1)
    for time_ns in count(10**15, size * 100_000):
        block: list[RawRecord] = []
        for first in range(0, size, 10):
            outer_id, outer_ns = next(ids), time_ns + first * 10_000
            for i in range(9):
                begin_ns = outer_ns + 1_000 + i * 10_000
                block.append(
                    (
                        _NAMES[i % 4], begin_ns, begin_ns + 8_765, next(ids), outer_id,
                        SPAN, tags, None,
                    )
                )  # fmt: skip
            block.append(
                (
                    "global_step", outer_ns, outer_ns + 95_000, outer_id, NO_PARENT,
                    SPAN, tags, None,
                )
            )  # fmt: skip
        yield block


def _ours(tangled: frozenset[str] = frozenset()) -> Callable[[list[RawRecord]], bytes]:
    stream = TraceStream(V2Layout(), Process(1, "python"), {})

    def encode(block: list[RawRecord]) -> bytes:
        clocks = ClockSnapshot(block[-1][2], block[-1][2], block[-1][2])
        return stream.encode(Batch([(_THREAD, block)], [], tangled, clocks))

    return encode


def _fixed_width(block: list[RawRecord]) -> bytes:
    """The least: name, begin and end in fields of one length."""
    ids = {name: number for number, name in enumerate((*_NAMES, "global_step"))}
    pack = _FIXED.pack
    return b"".join([pack(ids[record[0]], record[1], record[2]) for record in block])


def _protobuf() -> Callable[[list[RawRecord]], bytes]:
    """As libraries do it: an object for each packet, names written out."""
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto

    def encode(block: list[RawRecord]) -> bytes:
        trace = proto.Trace()
        for name, begin_ns, end_ns, *_, tags, _ in block:
            for time_ns, type_ in ((begin_ns, 1), (end_ns, 2)):
                packet = trace.packet.add()
                packet.timestamp = time_ns
                packet.trusted_packet_sequence_id = 1
                packet.track_event.type = type_
                packet.track_event.track_uuid = 1
                if type_ == 1:
                    packet.track_event.name = name
                    for key, value in (tags or {}).items():
                        annotation = packet.track_event.debug_annotations.add()
                        annotation.name = key
                        if isinstance(value, int):
                            annotation.int_value = value
                        elif isinstance(value, float):
                            annotation.double_value = value
                        else:
                            annotation.string_value = value
        return bytes(trace.SerializeToString())

    return encode
