"""The packets of a trace file, one after the other, whatever happened to the file."""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from perf._model.errors import TraceFormatError
from perf._model.lock import LockDemand
from perf._model.spans import ClockSnapshot
from perf._model.tracks import LOST_KEY, RUN_EVENT, SCHEMA_KEY, SCHEMA_VERSION

PACKET_KEY: Final = 0x0A
"""With which a packet begins, before its length."""
TIMESTAMP_KEY: Final = 0x40
"""With which the content of one that has a timestamp begins, before that."""
STATE_CLEARED: Final = 1
"""Flag: what was said of the packet's sequence before no longer holds."""
BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
"""Types of events."""
ARROW_START, ARROW_END = ord("s"), ord("f")
"""Phases of those that have no type: the ends of an arrow."""
REALTIME, MONOTONIC, BOOTTIME = 1, 3, 6
"""Numbers of clocks."""
MAX_PACKET: Final = 64 << 20
"""Bytes of a packet, and of what one unpacks to: a damaged length or a crafted file
must not fill the memory. Our packets stay under 512 KB."""
MOST_PER_BYTE: Final = 200
"""Bytes that packed packets may unpack to per byte of the file, beyond what a single
one may: events repeat themselves, but never so often."""

UNREADABLE: Final = "(unreadable)"
"""In the place of a name that the file refers to, and does not hold."""

_CHUNK: Final = 1 << 20
_LONGEST_VARINT: Final = 10

_FOREIGN: Final = (
    (b"\x1f\x8b", "a gzip file: unpack it first"),
    (b"PK", "a ZIP file: unpack it first"),
    (b"{", "JSON, a trace of Chrome's or something else"),
    (b"[", "JSON, a trace of Chrome's or something else"),
)
"""How other files begin that one could take for a trace."""


class DamageError(TraceFormatError):
    """What comes next in a file cannot be read; all before was given.

    Attributes:
        offset: in the file, where it begins.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class CutError(DamageError):
    """The file ends inside a packet."""


class TooLargeError(TraceFormatError):
    """Packets that would fill the memory: no damage, and not to be passed over."""


def check_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file.

    Raises:
        TraceFormatError: it is a folder, or no file; the message says what to do.
        OSError: there is none, or it cannot be looked at.
    """
    file = Path(path)
    mode = file.stat().st_mode  # Asked before opening: a pipe would be waited for.
    if stat.S_ISDIR(mode):
        raise TraceFormatError(
            f"{file}: expected a trace file, found a folder{_traces_in(file)}"
        )
    if not stat.S_ISREG(mode):
        raise TraceFormatError(
            f"{file}: expected a trace file, found a pipe, socket or device: copy what "
            "it gives to a file"
        )
    return file


def open_trace(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file that may be a trace.

    Raises:
        TraceFormatError: it is a folder, no file, empty, or of another known format;
            the message says what was found and what to do.
        OSError: it cannot be read.
    """
    file = check_file(path)
    opened = file.open("rb")
    head = opened.read(2)
    opened.seek(0)
    found = "an empty file: nothing was recorded yet, or the disk was full"
    for begin, what in _FOREIGN:
        if head.startswith(begin):
            found = what
            break
    else:
        if head:
            return opened
    opened.close()
    raise TraceFormatError(f"{file}: expected a trace of rlperf, found {found}")


def _traces_in(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.pb"))
    if not names:
        return " without any .pb file"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f": name files in it, it has {names[-1]}{more}"


def frames(file: BinaryIO, path: object) -> Iterator[tuple[int, bytes]]:
    """Every packet with the offset at which it begins, in the order of the file.

    Args:
        file: read from where it stands, in pieces.
        path: for messages.

    Raises:
        CutError: the end of the file is inside a packet.
        DamageError: something else than a packet comes next.
    """
    data, at, base = b"", 0, file.tell()
    while True:
        needed = 1
        frame = frame_at(data, at, path, base)
        if frame is not None:
            begin, end = frame
            if end <= len(data):
                yield base + at, data[begin:end]
                at = end
                continue
            needed = end - len(data)
        more = file.read(max(_CHUNK, needed))
        if not more:
            if at < len(data):
                raise CutError(
                    f"{path}: ends inside the packet that begins at offset "
                    f"{base + at}, {len(data) - at} bytes before the end",
                    base + at,
                )
            return
        data, at, base = data[at:] + more, 0, base + at


def frame_at(
    data: bytes, at: int, path: object, base: int = 0
) -> tuple[int, int] | None:
    """Where the content of a packet begins and ends, perhaps beyond the data.

    None: there is too little to tell.

    Args:
        data: a piece of a file.
        at: where the packet begins in it.
        path: for messages.
        base: offset of the data in the file; likewise.

    Raises:
        DamageError: there is no packet.
    """
    if at >= len(data):
        return None
    begin = size = 0
    if data[at] == PACKET_KEY:
        for place in range(at + 1, at + 1 + _LONGEST_VARINT):
            if place >= len(data):
                return None
            byte = data[place]
            size |= (byte & 0x7F) << 7 * (place - at - 1)
            if byte < 0x80:
                begin = place + 1
                break
    # Nor is an empty one ours: 30 million of them fit into MAX_PACKET.
    if not begin or not 0 < size <= MAX_PACKET:
        raise DamageError(
            f"{path}: expected a trace of rlperf, found "
            + _no_packet(data, at, base + at, size if begin else 0),
            base + at,
        )
    return begin, begin + size


def _no_packet(data: bytes, at: int, offset: int, size: int) -> str:
    if size > MAX_PACKET or data.startswith(b"\x0a\x00", at):
        return f"a packet of {size} bytes at offset {offset}"
    return f"the byte {data[at]:#04x} where a packet should begin, at offset {offset}"


def parsed(data: bytes, path: object, offset: int) -> Any:
    """A packet as protobuf's object.

    Raises:
        TraceFormatError: it cannot be parsed.
    """
    packet_type, decode_error = _protobuf()
    try:
        return packet_type.FromString(data)
    except decode_error as error:
        raise TraceFormatError(
            f"{path}: expected a trace of rlperf, found a packet that cannot be read "
            f"at offset {offset} ({error})"
        ) from error


def understood(data: bytes, path: object, offset: int) -> Any:
    """The same of a packet that holds nothing but what protobuf understands.

    A field with a damaged key is none that it knows, and would be passed over.

    Raises:
        TraceFormatError: it cannot be parsed, or holds something else.
    """
    packet = parsed(data, path, offset)
    packet.DiscardUnknownFields()
    if packet.ByteSize() != len(data):
        raise TraceFormatError(
            f"{path}: expected a trace of rlperf, found a packet with what it never "
            f"writes at offset {offset}"
        )
    return packet


@functools.cache
def _protobuf() -> tuple[Any, type[Exception]]:
    # Loaded when a file is read: protobuf is slow to import.
    from google.protobuf.message import DecodeError
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2

    return perfetto_trace_pb2.TracePacket, DecodeError


def unpacked(data: bytes, path: object, offset: int) -> Iterator[bytes]:
    """The packets in a packed one.

    Args:
        data: as `unpacked_data` returns it.
        path: for messages; likewise the offset.
        offset: in the file.

    Raises:
        DamageError: it holds something else.
    """
    for _, frame in frames(io.BytesIO(data), f"{path}, packed at offset {offset}"):
        yield frame


def unpacked_data(
    packet: Any, path: object, offset: int, limit: int = MAX_PACKET
) -> bytes:
    """What a packed packet holds, one packet after the other as in a file.

    Args:
        packet: protobuf's object.
        path: for messages; likewise the offset.
        offset: in the file.
        limit: bytes that it may unpack to, at least 1.

    Raises:
        TooLargeError: it has more.
        TraceFormatError: it cannot be unpacked.
    """
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packet.compressed_packets, limit)
    except zlib.error as error:
        raise TraceFormatError(
            f"{path}: expected compressed packets at offset {offset}, found what "
            f"cannot be unpacked ({error})"
        ) from error
    if unpacker.unconsumed_tail:
        raise TooLargeError(
            f"{path}: compressed packets of more than {limit} bytes at offset {offset}"
        )
    if not unpacker.eof:
        raise TraceFormatError(f"{path}: compressed packets cut off at offset {offset}")
    return data


def packed_twice(path: object, offset: int) -> TraceFormatError:
    """Packed packets in a packed one: nothing of ours, and a way to fill the memory."""
    return TraceFormatError(
        f"{path}: expected a trace of rlperf, found packets that are packed twice at "
        f"offset {offset}"
    )


def untimed(path: object, offset: int) -> TraceFormatError:
    """An event of a sequence that does not say from when its times count."""
    return TraceFormatError(
        f"{path}: expected a trace of rlperf, found an event before its clocks at "
        f"offset {offset}"
    )


@dataclasses.dataclass(slots=True)
class SequenceState:
    """What the packets of one sequence refer to."""

    names: dict[int, str] = dataclasses.field(default_factory=dict)
    """Of events, by number; likewise the following."""
    keys: dict[int, str] = dataclasses.field(default_factory=dict)
    texts: dict[int, str] = dataclasses.field(default_factory=dict)
    now_ns: int = 0
    """The time from which the next one counts."""
    is_timed: bool = False
    """Whether the clocks were read since the sequence began, or was damaged."""
    track: int = 0
    """The track of events that name none; 0: nobody knows."""

    def read_clocks(self, snapshot: Any, path: object) -> ClockSnapshot:
        """Takes in a ClockSnapshot; see `clocks_of`."""
        self.now_ns, clocks = clocks_of(snapshot, path)
        self.is_timed = True
        return clocks

    def lose(self) -> None:
        """Packets are missing: each counts from the one before, on its track."""
        self.is_timed = False
        self.track = 0

    def learn(self, interned: Any) -> None:
        """Takes in an InternedData."""
        self.names.update({e.iid: text(e.name) for e in interned.event_names})
        self.keys.update({e.iid: text(e.name) for e in interned.debug_annotation_names})
        self.texts.update(
            {e.iid: text(e.str) for e in interned.debug_annotation_string_values}
        )

    def advance(self, delta: int) -> int:
        """The time so much later; a difference below 0 is wrapped to 64 bits."""
        self.now_ns += delta - (1 << 64) if delta >> 63 else delta
        return self.now_ns

    def event_name(self, event: Any) -> str:
        """What an event is called."""
        if event.name_iid:
            return self.names.get(event.name_iid, UNREADABLE)
        return text(event.name)

    def tags(self, notes: Iterable[Any]) -> dict[str, Any]:
        """Debug annotations by their names."""
        return dict(map(self.tag, notes))

    def tag(self, note: Any) -> tuple[str, Any]:
        """The name of a debug annotation, and its value."""
        return self.keys.get(note.name_iid) or text(note.name), self._value(note)

    def _value(self, note: Any) -> Any:
        kind = note.WhichOneof("value")
        if kind is None:
            if note.dict_entries:
                return self.tags(note.dict_entries)
            return [self._value(entry) for entry in note.array_values] or None
        if kind == "string_value_iid":
            return self.texts.get(note.string_value_iid, "")
        value = getattr(note, kind)
        return text(value) if isinstance(value, bytes) else value


def clocks_of(snapshot: Any, path: object) -> tuple[int, ClockSnapshot]:
    """The time from which a sequence's next one counts, and what all clocks showed.

    Raises:
        TraceFormatError: there are other clocks in the snapshot than the writer's.
    """
    times = {clock.clock_id: clock.timestamp for clock in snapshot.clocks}
    own = next((c.timestamp for c in snapshot.clocks if c.is_incremental), None)
    if own is None or not {REALTIME, MONOTONIC, BOOTTIME} <= times.keys():
        raise TraceFormatError(
            f"{path}: expected a trace of rlperf, found a clock snapshot of the clocks "
            f"{sorted(times)}"
        )
    return own, ClockSnapshot(times[MONOTONIC], times[REALTIME], times[BOOTTIME])


def track_name(track: Any) -> str:
    """What a track is called: a process and a thread have names of their own."""
    if track.HasField("thread"):
        return text(track.thread.thread_name)
    if track.HasField("process"):
        return text(track.process.process_name)
    return text(track.name)


def tells_of_run(name: str, tags: Mapping[str, Any]) -> bool:
    """Whether an instant holds the run's metadata; it is on the track of the run."""
    return name == RUN_EVENT and SCHEMA_KEY in tags


def lost_records(tags: Mapping[str, Any]) -> int:
    """How many records the instant with these tags tells to be lost."""
    count = tags.get(LOST_KEY)
    return count if isinstance(count, int) else 0


def lock_demand(tags: Mapping[str, Any]) -> LockDemand | None:
    """What the instant with these tags tells.

    Returns:
        None where another version wrote it, or the file is damaged.
    """
    try:
        demand = LockDemand(**tags)
    except TypeError:
        return None
    *numbers, threads, threads_ns = dataclasses.astuple(demand)
    if not isinstance(threads, list) or not isinstance(threads_ns, list):
        return None
    if not all(isinstance(name, str) for name in threads):
        return None
    if not all(isinstance(n, int) and n >= 0 for n in (*numbers, *threads_ns)):
        return None
    return demand if demand.taken <= demand.wakeups else None


def text(value: str | bytes) -> str:
    """A text of a packet: of one that is damaged, protobuf gives the bytes."""
    if isinstance(value, str):
        return value
    return value.decode(errors="backslashreplace")


def check_versions(versions: Iterable[Any], path: object, *, is_cut: bool) -> None:
    """Checks the schema versions that a file names, of each run in it.

    Raises:
        TraceFormatError: none, or one that this version does not read.
    """
    found = list(versions)
    if not found:
        where = "before it says" if is_cut else "without saying"
        raise TraceFormatError(
            f"{path}: expected a trace of rlperf, found a file that ends {where} which "
            "version wrote it"
        )
    for version in found:
        if version not in range(SCHEMA_VERSION - 2, SCHEMA_VERSION + 1):
            raise TraceFormatError(
                f"{path}: written with schema version {version}; this version reads "
                f"{max(1, SCHEMA_VERSION - 2)} to {SCHEMA_VERSION}: use the one that "
                "wrote the file, or a newer one"
            )
