"""The real Perfetto trace processor, in this process: a trace in, SQL rows out.

Nothing is downloaded and no other process is started.
"""

from __future__ import annotations

import functools
import gzip
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from google.protobuf.message import DecodeError
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory

from tools.perfetto.wasm import Instance, chunks

HIDDEN_LOSSES: Final = (
    "interned_data_tokenizer_errors",
    "tokenizer_skipped_packets",
    "track_event_parser_errors",
    "track_event_tokenizer_errors",
)
"""Stats that mean lost events, though Perfetto files them under severity `info`."""

_EVENT: Final = pb.TrackEvent


class TraceProcessorError(Exception):
    """Perfetto refused the trace or the query; the message is Perfetto's."""


class TraceProcessor:
    """One loaded trace, to be asked in PerfettoSQL.

    Args:
        trace: the bytes of a trace, or the file that holds them.

    Raises:
        TraceProcessorError: the bytes are nothing that Perfetto knows.
    """

    def __init__(self, trace: bytes | Path) -> None:
        self._trace = trace.read_bytes() if isinstance(trace, Path) else trace
        self._wasm = Instance()
        self._requests = 0
        for chunk in chunks(self._trace):
            for reply in self._rpc("TPM_APPEND_TRACE_DATA", append_trace_data=chunk):
                _raise_if(reply.append_result.error)
        for reply in self._rpc("TPM_FINALIZE_TRACE_DATA"):
            _raise_if(reply.finalize_data_result.error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the memory back; nothing can be asked afterwards."""
        self._wasm.close()

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Returns the rows of a query, each as column name -> value.

        Values are int, float, str, bytes or None. Perfetto cuts a string at its first
        NUL and gives NaN as None.

        Args:
            sql: one or more statements; the rows are those of the last one.

        Raises:
            TraceProcessorError: the query is wrong.
            ValueError: two columns have one name.
        """
        args = _protos().QueryArgs(sql_query=sql)
        names: list[str] = []
        cells: list[Any] = []
        for reply in self._rpc("TPM_QUERY_STREAMING", query_args=args):
            _raise_if(reply.query_result.error)
            names = names or list(reply.query_result.column_names)
            for batch in reply.query_result.batch:
                cells += _cells(batch)
        if len(set(names)) < len(names):
            raise ValueError(f"two columns have one name: {names}; use `as`")
        rows = zip(*[iter(cells)] * len(names), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def stats(self) -> dict[str, int]:
        """Returns what Perfetto complains about: name -> how often.

        These are the stats above zero of severity `error` and `data_loss`, and those of
        `HIDDEN_LOSSES`. A stat that is kept per index is named `name[index]`.
        """
        hidden = ", ".join(f"'{name}'" for name in HIDDEN_LOSSES)
        rows = self.query(
            "select iif(idx is null, name, name || '[' || idx || ']') as name, value"
            " from stats where value > 0"
            f" and (severity in ('error', 'data_loss') or name in ({hidden}))"
        )
        return {row["name"]: row["value"] for row in rows}

    def losses(self) -> dict[str, int]:
        """Returns `stats()` and what Perfetto drops without a word: what -> how often.

        For that, the events in the bytes are counted and compared with the rows: an end
        without a begin leaves nothing in SQL, and neither does what a cut has hit.
        """
        try:
            written = Counter(_event_types(self._trace))
        except DecodeError:
            return {**self.stats(), "the file ends inside a packet": 1}
        (kept,) = self.query(
            "select (select count() from slice) as slices,"
            " (select count() from slice where dur = -1) as unfinished,"
            " (select count() from counter) as samples"
        )
        begins, ends = written[_EVENT.TYPE_SLICE_BEGIN], written[_EVENT.TYPE_SLICE_END]
        moments = written[_EVENT.TYPE_INSTANT]
        dropped = {
            "slices or instants": begins + moments - kept["slices"],
            "ends without a begin": ends
            + kept["unfinished"]
            - kept["slices"]
            + moments,
            "counter samples": written[_EVENT.TYPE_COUNTER] - kept["samples"],
        }
        return self.stats() | {what: count for what, count in dropped.items() if count}

    def assert_clean(self) -> None:
        """Asserts that every event of the trace is there, without a complaint.

        Slices may be unfinished. Overlap on one track is not seen here, for Perfetto
        ends the wrong slice and counts nothing: compare begins and ends for that.

        Raises:
            AssertionError: it lists all `losses`.
        """
        losses = self.losses()
        assert not losses, f"Perfetto complained or dropped: {losses}"

    def _rpc(self, method: str, **request: Any) -> list[Any]:
        rpc = _protos().TraceProcessorRpc
        self._requests += 1
        number = rpc.TraceProcessorMethod.Value(method)
        message = rpc(seq=self._requests, request=number, **request)
        stream = _protos().TraceProcessorRpcStream(msg=[message])
        answer = self._wasm.request(stream.SerializeToString())
        replies = list(_protos().TraceProcessorRpcStream.FromString(answer).msg)
        for reply in replies:
            _raise_if(reply.fatal_error)
        return replies


@dataclass(frozen=True, slots=True)
class Slice:
    """A row of `slice`; Perfetto keeps an instant as a slice of no duration."""

    track: tuple[str, ...]
    """Names from the root to the leaf. Tracks of a process or thread start with that
    process and thread; lanes are tracks of one name, so they have the same path."""
    name: str | None
    """None: the event had no name, or an interned one that was never defined."""
    ts: int
    """Begin, in nanoseconds on the trace's clock."""
    dur: int
    """Nanoseconds, -1 for a slice that was never ended."""
    args: dict[str, Any]
    """Debug annotations: int, float, str, bool or None (NaN). Perfetto flattens nested
    ones (`a.b`, `a[0]`) and writes `.`, `[` and `]` in a name as `_`."""
    depth: int
    id: int
    parent_id: int | None
    """The slice around it on its track."""


@dataclass(frozen=True, slots=True)
class CounterSample:
    """A row of `counter`."""

    track: tuple[str, ...]
    """As in `Slice`; the last name is the counter's."""
    unit: str | None
    ts: int
    value: float


@dataclass(frozen=True, slots=True)
class Flow:
    """An arrow from the end of one slice to the begin of another, by their ids."""

    slice_out: int
    slice_in: int


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread with its process; names are None where the trace gives none."""

    pid: int | None
    process: str | None
    tid: int
    thread: str | None


def slices(tp: TraceProcessor) -> list[Slice]:
    """Returns all slices and instants by begin, an outer one before its inner ones."""
    tracks, args = _track_paths(tp), _debug_annotations(tp)
    rows = tp.query(
        "select id, track_id, name, ts, dur, depth, parent_id, arg_set_id"
        " from slice order by ts, depth, id"
    )
    return [
        Slice(
            track=tracks[row["track_id"]],
            name=row["name"],
            ts=row["ts"],
            dur=row["dur"],
            args=dict(args.get(row["arg_set_id"], {})),
            depth=row["depth"],
            id=row["id"],
            parent_id=row["parent_id"],
        )
        for row in rows
    ]


def instants(tp: TraceProcessor) -> list[Slice]:
    """Returns the slices of no duration, by time: instants and zero-length slices."""
    return [row for row in slices(tp) if row.dur == 0]


def counters(tp: TraceProcessor) -> list[CounterSample]:
    """Returns the samples of all counters by time, those of one time in file order."""
    tracks = _track_paths(tp)
    rows = tp.query(
        "select track_id, unit, ts, value from counter"
        " join counter_track on track_id = counter_track.id order by ts, counter.id"
    )
    return [
        CounterSample(tracks[row["track_id"]], row["unit"], row["ts"], row["value"])
        for row in rows
    ]


def flows(tp: TraceProcessor) -> list[Flow]:
    """Returns the flows that have both ends; of others Perfetto keeps nothing."""
    rows = tp.query("select slice_out, slice_in from flow order by 1, 2")
    return [Flow(**row) for row in rows]


def threads(tp: TraceProcessor) -> list[Thread]:
    """Returns the threads that the trace names, by process and thread id."""
    rows = tp.query(
        "select pid, process.name as process, tid, thread.name as thread"
        # Number 0 is Perfetto's own: the idle task of the system.
        " from thread left join process using (upid) where utid != 0 order by pid, tid"
    )
    return [Thread(**row) for row in rows]


def _track_paths(tp: TraceProcessor) -> dict[int, tuple[str, ...]]:
    rows = tp.query(
        "select track.id as id, track.name as name, track.parent_id as parent,"
        " tid, pid, thread.name as thread, process.name as process from track"
        " left join thread on utid = extract_arg(dimension_arg_set_id, 'utid')"
        " left join process on process.upid ="
        " coalesce(thread.upid, extract_arg(dimension_arg_set_id, 'upid'))"
    )
    by_id = {row["id"]: row for row in rows}

    @functools.cache
    def path(track_id: int) -> tuple[str, ...]:
        row = by_id[track_id]
        leaf = () if row["name"] is None else (row["name"],)
        if row["parent"] is not None:
            return (*path(row["parent"]), *leaf)
        owners = []
        if row["pid"] is not None:
            owners.append(row["process"] or f"Process {row['pid']}")
        if row["tid"] is not None:
            owners.append(row["thread"] or f"Thread {row['tid']}")
        return (*owners, *leaf)

    return {track_id: path(track_id) for track_id in by_id}


def _debug_annotations(tp: TraceProcessor) -> dict[int, dict[str, Any]]:
    sets: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for row in tp.query(
        "select arg_set_id, substr(key, length('debug.') + 1) as key, value_type,"
        " int_value, real_value, string_value from args where key glob 'debug.*'"
    ):
        sets[row["arg_set_id"]][row["key"]] = _argument(row)
    return sets


def _argument(row: dict[str, Any]) -> Any:
    match row["value_type"]:
        case "bool":
            return bool(row["int_value"])
        case "real":
            return row["real_value"]
        case "int":
            return row["int_value"]
        case "uint" | "pointer":
            return row["int_value"] % 2**64  # SQL's numbers are signed.
        case "string":
            return row["string_value"]
        case other:
            raise ValueError(f"argument {row['key']!r} is of unknown type {other!r}")


def _event_types(trace: bytes) -> Iterator[int]:
    if trace.startswith(b"\x1f\x8b"):
        trace = gzip.decompress(trace)
    for packet in pb.Trace.FromString(trace).packet:
        if packet.HasField("compressed_packets"):
            # 32 + 15: as zlib or gzip, whichever it is; Perfetto takes both.
            yield from _event_types(zlib.decompress(packet.compressed_packets, 47))
        elif packet.HasField("track_event"):
            yield packet.track_event.type


def _cells(batch: Any) -> Iterator[Any]:
    kind = _protos().CellsBatch
    values: dict[int, Iterator[Any]] = {
        kind.CELL_VARINT: iter(batch.varint_cells),
        kind.CELL_FLOAT64: iter(batch.float64_cells),
        kind.CELL_STRING: iter(batch.string_cells.split("\0")),
        kind.CELL_BLOB: iter(batch.blob_cells),
    }
    cells: Iterable[int] = batch.cells
    return (None if cell == kind.CELL_NULL else next(values[cell]) for cell in cells)


def _raise_if(error: str) -> None:
    if error:
        raise TraceProcessorError(error.strip())


@functools.cache
def _protos() -> Any:  # Any: the classes are made at run time.
    return ProtoFactory(PlatformDelegate())
