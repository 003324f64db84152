"""What rlperf puts into its packets: all else is damage, or another program's."""

from __future__ import annotations

from typing import Any, Final

_FIELDS: Final = {
    "TracePacket": (
        "timestamp trusted_packet_sequence_id sequence_flags track_event interned_data "
        "trace_packet_defaults clock_snapshot track_descriptor compressed_packets"
    ),
    "TrackEvent": (
        "type track_uuid name name_iid debug_annotations counter_value "
        "double_counter_value legacy_event"
    ),
    "LegacyEvent": "phase unscoped_id bind_to_enclosing",
    "DebugAnnotation": (
        "name name_iid bool_value uint_value int_value double_value string_value "
        "string_value_iid dict_entries array_values"
    ),
    "InternedData": (
        "event_names debug_annotation_names debug_annotation_string_values"
    ),
    "EventName": "iid name",
    "DebugAnnotationName": "iid name",
    "InternedString": "iid str",
    "TracePacketDefaults": "timestamp_clock_id track_event_defaults",
    "TrackEventDefaults": "track_uuid",
    "ClockSnapshot": "clocks primary_trace_clock",
    "Clock": "clock_id timestamp is_incremental unit_multiplier_ns",
    "TrackDescriptor": (
        "uuid name process thread parent_uuid counter child_ordering "
        "sibling_order_rank description sibling_merge_behavior"
    ),
    "ProcessDescriptor": "pid cmdline process_name",
    "ThreadDescriptor": "pid tid thread_name",
    "CounterDescriptor": "unit_name",
}
"""By message, the fields that the writer fills."""

_WRITTEN: Final = {name: frozenset(text.split()) for name, text in _FIELDS.items()}


def is_written(packet: Any, size: int) -> bool:
    """Whether a packet holds only what the writer fills, in it and in its parts.

    Args:
        packet: protobuf's object; fields that protobuf does not know are taken out.
        size: of its bytes.
    """
    packet.DiscardUnknownFields()
    # Each field is there once and as short as it can be, or the size would differ.
    return bool(packet.ByteSize() == size) and _is_written(packet)


def _is_written(message: Any) -> bool:
    names = _WRITTEN.get(message.DESCRIPTOR.name)
    if names is None:
        return False
    if message.DESCRIPTOR.name == "TrackDescriptor" and not _is_whole_track(message):
        return False
    for field, value in message.ListFields():
        if field.name not in names:
            return False
        if isinstance(value, (int, float, str)):
            continue
        if isinstance(value, bytes):
            # So comes a text, too, that is no UTF-8.
            if field.type == field.TYPE_STRING:
                return False
        elif not field.is_repeated:
            if not _is_written(value):
                return False
        elif not all(
            isinstance(part, str) or (field.message_type and _is_written(part))
            for part in value
        ):
            return False
    return True


def _is_whole_track(track: Any) -> bool:
    """Whether a track has what every one has: one of a name merges with no other."""
    named = not (track.HasField("process") or track.HasField("thread"))
    merges = track.sibling_merge_behavior != track.SIBLING_MERGE_BEHAVIOR_NONE
    needed = "uuid", "child_ordering", "sibling_order_rank"
    return all(map(track.HasField, needed)) and not (named and merges)
