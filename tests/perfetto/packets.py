"""Tiny traces out of protobuf packets, for tests of what Perfetto makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

SEQUENCE: Final = 7
CLOCK: Final = 64
"""The first clock that belongs to a sequence; here its timestamps are increments."""
CLEARED: Final = 1
NEEDS_STATE: Final = 2
"""`sequence_flags`."""

_BOOTTIME, _MONOTONIC, _REALTIME = 6, 3, 1
_BOOT_OFFSET_NS, _WALL_OFFSET_NS = 500, 10**18


def trace(*packets: Any) -> bytes:
    """Returns the bytes of a file with these packets."""
    data: bytes = pb.Trace(packet=packets).SerializeToString()
    return data


def packet(**fields: Any) -> Any:
    """Returns a packet of `SEQUENCE` that says it needs the sequence's state."""
    defaults = {
        "trusted_packet_sequence_id": SEQUENCE,
        "sequence_flags": NEEDS_STATE,
    }
    return pb.TracePacket(**defaults | fields)


def start(track: int, *, at_ns: int, names: tuple[str, ...] = (), **fields: Any) -> Any:
    """Returns the packet that begins a sequence.

    State is cleared, `track` is the default, the names are interned from 1 on, and the
    next increment counts from `at_ns`, the monotonic time that the trace is shown in.
    """
    return packet(
        sequence_flags=CLEARED | NEEDS_STATE,
        trace_packet_defaults=defaults(track),
        interned_data=interned(*names),
        **{"clock_snapshot": clocks(at_ns)} | fields,
    )


def defaults(track: int) -> Any:
    """Returns the defaults: `CLOCK`, and this track."""
    return pb.TracePacketDefaults(
        timestamp_clock_id=CLOCK,
        track_event_defaults=pb.TrackEventDefaults(track_uuid=track),
    )


def interned(*names: str, first: int = 1) -> Any:
    """Returns interned event names with ids from `first` on."""
    names_by_id = [
        pb.EventName(iid=iid, name=name) for iid, name in enumerate(names, first)
    ]
    return pb.InternedData(event_names=names_by_id)


def clocks(at_ns: int, *, own: bool = True, own_ns: int | None = None) -> Any:
    """Returns a snapshot at a monotonic time; `own`: with `CLOCK`, set to `own_ns`."""
    snapshot = pb.ClockSnapshot(primary_trace_clock=_MONOTONIC)
    snapshot.clocks.add(clock_id=_MONOTONIC, timestamp=at_ns)
    snapshot.clocks.add(clock_id=_REALTIME, timestamp=at_ns + _WALL_OFFSET_NS)
    snapshot.clocks.add(clock_id=_BOOTTIME, timestamp=at_ns + _BOOT_OFFSET_NS)
    if own:
        value = at_ns if own_ns is None else own_ns
        snapshot.clocks.add(clock_id=CLOCK, timestamp=value, is_incremental=True)
    return snapshot


def track(uuid: int, name: str | None = None, **descriptor: Any) -> Any:
    """Returns the packet that describes a track."""
    described = pb.TrackDescriptor(uuid=uuid, name=name, **descriptor)
    return packet(track_descriptor=described)


def begin(delta_ns: int, name: str | int | None = None, **fields: Any) -> Any:
    """Returns the begin of a slice; a name that is a number is an interned one."""
    return _event(pb.TrackEvent.TYPE_SLICE_BEGIN, delta_ns, name, **fields)


def end(delta_ns: int, **fields: Any) -> Any:
    """Returns the end of the innermost open slice."""
    return _event(pb.TrackEvent.TYPE_SLICE_END, delta_ns, None, **fields)


def instant(delta_ns: int, name: str | int, **fields: Any) -> Any:
    """Returns an instant."""
    return _event(pb.TrackEvent.TYPE_INSTANT, delta_ns, name, **fields)


def sample(delta_ns: int, value: float, **fields: Any) -> Any:
    """Returns a sample of a counter."""
    kind = "counter_value" if isinstance(value, int) else "double_counter_value"
    return _event(pb.TrackEvent.TYPE_COUNTER, delta_ns, None, **{kind: value} | fields)


def tags(values: Mapping[str, Any]) -> list[Any]:
    """Returns debug annotations of bool, int (64 bits of either sort), float or str."""

    def field(value: bool | int | float | str) -> str:
        if isinstance(value, bool):
            return "bool_value"
        if isinstance(value, int):
            return "int_value" if value < 2**63 else "uint_value"
        return "double_value" if isinstance(value, float) else "string_value"

    return [
        pb.DebugAnnotation(name=name, **{field(value): value})
        for name, value in values.items()
    ]


def _event(kind: int, delta_ns: int, name: str | int | None, **fields: Any) -> Any:
    around = {key: fields.pop(key) for key in _OF_PACKET & fields.keys()}
    if name is not None:
        fields["name_iid" if isinstance(name, int) else "name"] = name
    event = pb.TrackEvent(type=kind, **fields)
    # Protobuf has no negative timestamps: an increment below 0 is wrapped.
    return packet(timestamp=delta_ns % 2**64, track_event=event, **around)


_OF_PACKET: Final = {
    "sequence_flags",
    "trace_packet_defaults",
    "trusted_packet_sequence_id",
}
"""Fields of an event that belong to the packet around it."""
