from __future__ import annotations

import zlib
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from perf._write import compression
from perf._write.compression import MAX_BLOCK, compressed
from perf._write.wire import blob
from tests.write.traces import MAIN, batch, span, stream, times


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(1, 500))
def test_packets_come_back_in_order(sizes: list[int], most: int) -> None:
    """Cut between packets; a block is bounded unless one packet is larger."""
    # A field that Perfetto does not know, of any size.
    packets = b"".join(blob(1, blob(5_000, b"x" * size)) for size in sizes)
    with mock.patch.object(compression, "MAX_BLOCK", most):
        data = compressed(packets)
    blocks = [
        zlib.decompress(packet.compressed_packets)
        for packet in pb.Trace.FromString(data).packet
    ]
    assert packets == b"".join(blocks)
    for block in blocks:
        assert len(block) <= most or 1 == len(pb.Trace.FromString(block).packet)


def test_the_trace_processor_reads_it() -> None:
    """Also several blocks of a flush, and flushes one after the other."""
    many = [span(n, 10 * n, 10 * n + 5) for n in range(1, 40_000)]
    encoder = stream()
    first = encoder.encode(batch((MAIN, many)))
    second = encoder.encode(batch((MAIN, [span(40_000, 400_000, 400_005)])))
    assert len(first) > 2 * MAX_BLOCK
    data = compressed(first) + compressed(second)
    assert len(data) < 0.5 * len(first)
    assert 40_000 == len(times(data))
