"""The harness sees what a trace holds, and what Perfetto would hide of it."""

import gzip
import math
import zlib
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from tests.perfetto.packets import (
    begin,
    end,
    instant,
    sample,
    start,
    tags,
    trace,
    track,
)
from tools.perfetto import wasm
from tools.perfetto.trace_processor import (
    CounterSample,
    Flow,
    Slice,
    Thread,
    TraceProcessor,
    TraceProcessorError,
    counters,
    flows,
    instants,
    slices,
    threads,
)

HEAD = (start(1, at_ns=1000, names=("step",)), track(1, "Run"))
STEP = (begin(10, 1), end(30))


class TestQuery:
    """SQL in, rows out."""

    def test_gives_python_values_by_column_name(self):
        """Each of SQL's types comes as Python's."""
        sql = "select 1 as i, -2.5 as f, 'hé' as s, x'00ff' as b, null as n, '' as e"
        expected = {"i": 1, "f": -2.5, "s": "hé", "b": b"\x00\xff", "n": None, "e": ""}
        with TraceProcessor(b"") as tp:
            assert [expected] == tp.query(sql)

    def test_gives_all_rows_of_a_large_result(self):
        """Rows that come in several batches stay in order."""
        sql = (
            "with recursive n(i) as"
            " (select 0 union all select i + 1 from n limit 70000)"
            " select i, 'row ' || i as s from n"
        )
        with TraceProcessor(b"") as tp:
            expected = [{"i": i, "s": f"row {i}"} for i in range(70000)]
            assert expected == tp.query(sql)

    def test_refuses_what_is_no_sql(self):
        """Perfetto's message comes as an error, and the next query works."""
        with TraceProcessor(b"") as tp:
            with pytest.raises(TraceProcessorError, match="no such column: nope"):
                tp.query("select nope")
            assert [{"i": 1}] == tp.query("select 1 as i")

    def test_refuses_two_columns_of_one_name(self):
        """A dict would lose one of them without a word."""
        with TraceProcessor(b"") as tp, pytest.raises(ValueError, match="use `as`"):
            tp.query("select 1 as a, 2 as a")


class TestTraces:
    """What is taken for a trace."""

    def test_a_file(self, tmp_path: Path):
        """A path is read."""
        file = tmp_path / "trace.pb"
        file.write_bytes(trace(*HEAD, *STEP))
        with TraceProcessor(file) as tp:
            tp.assert_clean()
            assert ["step"] == [row.name for row in slices(tp)]

    @pytest.mark.parametrize(
        "pack",
        [
            pytest.param(gzip.compress, id="gzip'd file"),
            pytest.param(
                lambda data: trace(
                    pb.TracePacket(compressed_packets=zlib.compress(data))
                ),
                id="compressed packets",
            ),
        ],
    )
    def test_compressed_ones(self, pack):
        """They are loaded, and their events are counted for the losses."""
        with TraceProcessor(pack(trace(*HEAD, *STEP, end(1)))) as tp:
            assert ["step"] == [row.name for row in slices(tp)]
            assert {"ends without a begin": 1} == tp.losses()

    def test_not_other_bytes(self):
        """What Perfetto does not know is an error."""
        with pytest.raises(TraceProcessorError, match="Unknown trace type"):
            TraceProcessor(b"\xff" * 100)

    def test_large_ones(self):
        """A trace larger than what fits into one message is loaded whole."""
        long = tags({"text": "x" * 3_000_000})
        with TraceProcessor(trace(*HEAD, begin(1, 1, debug_annotations=long))) as tp:
            tp.assert_clean()
            assert [{"text": "x" * 3_000_000}] == [row.args for row in slices(tp)]


class TestRows:
    """The rows that tests compare with what was recorded."""

    def test_slices_nest(self):
        """A slice has its track, time, depth and the slice around it."""
        data = trace(*HEAD, begin(10, "outer"), begin(5, "inner"), end(5), begin(5, 1))
        with TraceProcessor(data) as tp:
            found = slices(tp)
        outer, inner, step = (row.id for row in found)
        assert [
            Slice(("Run",), "outer", 1010, -1, {}, 0, outer, None),
            Slice(("Run",), "inner", 1015, 5, {}, 1, inner, outer),
            Slice(("Run",), "step", 1025, -1, {}, 1, step, outer),
        ] == found

    def test_tracks_are_paths(self):
        """A path leads over parents; tracks of a process or thread start with it."""
        process = pb.ProcessDescriptor(pid=10, process_name="trainer")
        thread = pb.ThreadDescriptor(pid=10, tid=11, thread_name="main")
        nameless = pb.ThreadDescriptor(pid=10, tid=12)
        data = trace(
            start(1, at_ns=1000),
            track(1, "Run"),
            track(2, "Rollout", parent_uuid=1),
            track(3, "tpu0", parent_uuid=2),
            track(4, process=process),
            track(5, parent_uuid=4, thread=thread),
            track(6, parent_uuid=4, thread=nameless),
            track(7, "under the thread", parent_uuid=5),
            track(8, "under the process", parent_uuid=4),
            track(9, "leaf", parent_uuid=8),
            *[begin(1, str(uuid), track_uuid=uuid) for uuid in range(1, 10)],
        )
        expected = {
            "1": ("Run",),
            "2": ("Run", "Rollout"),
            "3": ("Run", "Rollout", "tpu0"),
            "4": ("trainer",),
            "5": ("trainer", "main"),
            "6": ("trainer", "Thread 12"),
            "7": ("trainer", "main", "under the thread"),
            "8": ("trainer", "under the process"),
            "9": ("trainer", "under the process", "leaf"),
        }
        with TraceProcessor(data) as tp:
            tp.assert_clean()
            assert expected == {row.name: row.track for row in slices(tp)}
            named = {(row.pid, row.process, row.tid, row.thread) for row in threads(tp)}
        assert {(10, "trainer", 11, "main"), (10, "trainer", 12, None)} <= named

    def test_lanes_share_a_path(self):
        """Sibling tracks of one name, whose slices overlap, have the same path."""
        data = trace(
            *HEAD,
            *[track(uuid, "lane", parent_uuid=1) for uuid in (2, 3)],
            *[begin(10, "a", track_uuid=2), begin(10, "b", track_uuid=3)],
            *[end(10, track_uuid=2), end(10, track_uuid=3)],
        )
        with TraceProcessor(data) as tp:
            tp.assert_clean()
            found = [(row.track, row.name, row.dur, row.depth) for row in slices(tp)]
        lane = ("Run", "lane")
        assert [(lane, "a", 20, 0), (lane, "b", 20, 0)] == found

    def test_debug_annotations_are_typed(self):
        """Each type of an annotation comes as Python's; those of an end are added."""
        values = {"bool": True, "int": -5, "uint": 2**64 - 1, "float": 1.5, "str": "hé"}
        data = trace(
            *HEAD,
            begin(10, 1, debug_annotations=tags(values)),
            end(5, debug_annotations=tags({"late": math.inf, "int": 6})),
        )
        with TraceProcessor(data) as tp:
            (row,) = slices(tp)
        assert values | {"late": math.inf, "int": 6} == row.args
        assert row.args["bool"] is True

    def test_debug_annotations_change_in_perfetto(self):
        """What it does to names and values of its own accord, for writers to know."""
        values = {"a.b[0]": 1, "nul": "a\0b", "nan": math.nan, "": 2}
        named = begin(10, "na\0me", debug_annotations=tags(values))
        data = trace(*HEAD, named, end(5))
        with TraceProcessor(data) as tp:
            (row,) = slices(tp)
        assert {"a_b_0_": 1, "nul": "a", "nan": None, "": 2} == row.args
        assert "na" == row.name

    def test_instants_are_slices_of_no_duration(self):
        """An instant has track, time and annotations as a slice has."""
        saved = instant(5, "saved", debug_annotations=tags({"loss": 0.5}))
        data = trace(*HEAD, *STEP, saved)
        with TraceProcessor(data) as tp:
            tp.assert_clean()
            (row,) = instants(tp)
        assert (("Run",), "saved", 1045, {"loss": 0.5}) == (
            *(row.track, row.name, row.ts, row.args),
        )

    def test_counters_have_units(self):
        """Samples come with the counter's path and unit."""
        data = trace(
            *HEAD,
            track(2, "tokens", parent_uuid=1, counter={"unit_name": "tok/s"}),
            track(3, "loss", counter={}),
            *[sample(5, 7, track_uuid=2), sample(5, -0.5, track_uuid=3)],
        )
        with TraceProcessor(data) as tp:
            tp.assert_clean()
            assert [
                CounterSample(("Run", "tokens"), "tok/s", 1005, 7.0),
                CounterSample(("loss",), None, 1010, -0.5),
            ] == counters(tp)

    def test_flows_join_slices(self):
        """A flow leads from the slice that starts it to the one that ends it."""
        data = trace(
            *HEAD,
            *[begin(10, "from", flow_ids=[5]), end(5)],
            *[begin(10, "to", terminating_flow_ids=[5]), end(5)],
            *[begin(10, "one end only", flow_ids=[6]), end(5)],
        )
        with TraceProcessor(data) as tp:
            tp.assert_clean()
            source, target, _ = slices(tp)
            assert [Flow(source.id, target.id)] == flows(tp)

    def test_threads_of_no_process(self):
        """A trace without threads names none."""
        with TraceProcessor(trace(*HEAD, *STEP)) as tp:
            assert [] == threads(tp)

    def test_threads_have_their_process(self):
        """A thread comes with its ids and names."""
        process = pb.ProcessDescriptor(pid=10, process_name="trainer")
        thread = pb.ThreadDescriptor(pid=10, tid=10, thread_name="main")
        tracks = track(4, process=process), track(5, parent_uuid=4, thread=thread)
        with TraceProcessor(trace(*HEAD, *tracks)) as tp:
            tp.assert_clean()
            assert [Thread(10, "trainer", 10, "main")] == threads(tp)


@pytest.mark.parametrize(
    ("expected", "packets"),
    [
        pytest.param(
            {"interned_data_tokenizer_errors": 1},
            [*HEAD, begin(10, 99), end(5)],
            id="unknown interned id",
        ),
        pytest.param(
            {"ends without a begin": 1},
            [*HEAD, *STEP, end(5)],
            id="end without a begin",
        ),
        pytest.param(
            {
                "tokenizer_skipped_packets": 2,
                "slices or instants": 1,
                "ends without a begin": 1,
            },
            STEP,
            id="no state",
        ),
        pytest.param(
            {
                "track_event_parser_errors": 3,
                "slices or instants": 1,
                "ends without a begin": 1,
            },
            [
                *HEAD,
                track(2, "lost", parent_uuid=3),
                begin(10, 1, track_uuid=2),
                end(5, track_uuid=2),
            ],
            id="unknown parent",
        ),
        pytest.param(
            {"track_event_tokenizer_errors": 1, "counter samples": 1},
            [*HEAD, sample(5, 7)],
            id="sample on a track of slices",
        ),
        pytest.param(
            {
                "clock_sync_failure": 2,
                "slices or instants": 1,
                "ends without a begin": 1,
            },
            [start(1, at_ns=0, clock_snapshot=None), track(1, "Run"), *STEP],
            id="no clock snapshot",
        ),
    ],
)
def test_losses_are_told(expected, packets):
    """What Perfetto loses or cannot use fails the check, counted by Perfetto or not."""
    with TraceProcessor(trace(*packets)) as tp:
        assert expected == tp.losses()
        with pytest.raises(AssertionError, match=next(iter(expected))):
            tp.assert_clean()


def test_a_cut_file_is_told():
    """Perfetto loads a file up to where it was cut; the check fails."""
    with TraceProcessor(trace(*HEAD, *STEP)[:-3]) as tp:
        assert [-1] == [row.dur for row in slices(tp)]
        with pytest.raises(AssertionError, match="ends inside a packet"):
            tp.assert_clean()


def test_unfinished_slices_are_no_loss():
    """A run that was killed leaves slices open, and a clean trace."""
    with TraceProcessor(trace(*HEAD, *STEP, begin(5, 1), instant(5, "killed"))) as tp:
        tp.assert_clean()


class TestCompiledCache:
    """The compiled module, kept for the next process."""

    @pytest.fixture
    def tiny(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A build whose module is empty; returns the file it is cached in."""
        (tmp_path / "trace_processor.wasm").write_bytes(b"\0asm\1\0\0\0")
        monkeypatch.setattr(wasm, "web_dist", lambda: tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return wasm._cache_file(b"\0asm\1\0\0\0")

    def test_is_written_once(self, tiny: Path):
        """The first process writes the file and leaves no draft; the next reads it."""
        wasm._compiled.__wrapped__()
        assert [tiny] == list(tiny.parent.iterdir())
        written = tiny.stat()
        wasm._compiled.__wrapped__()
        assert written.st_ino == tiny.stat().st_ino

    def test_is_made_again_when_broken(self, tiny: Path):
        """A file that is no module is replaced."""
        tiny.parent.mkdir(parents=True)
        tiny.write_bytes(b"broken")
        wasm._compiled.__wrapped__()
        assert b"broken" != tiny.read_bytes()

    def test_may_be_missing(self, tiny: Path):
        """Where nothing can be written the module is compiled all the same."""
        tiny.parent.parent.write_text("not a folder")
        _, module = wasm._compiled.__wrapped__()
        assert [] == module.exports
