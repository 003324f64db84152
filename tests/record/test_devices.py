"""Device timelines: the order of work, its waits, and devices in every form."""

from __future__ import annotations

import gc
import itertools
import signal
import threading
import weakref
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf._model import ids as ids_module
from perf._model.spans import (
    DEVICE,
    GROUP,
    OPEN,
    QUEUED,
    RawRecord,
    Record,
    Records,
    TimelineInfo,
    TimelineKind,
)
from perf._record import devices as devices_module
from perf._record.devices import Devices
from tests.record.recording import BORN_NS, Recording, flat, in_thread, on


@pytest.fixture
def rec() -> Recording:
    """A tracer on a clock that stands still."""
    return Recording(["a0"])


def timeline(rec: Recording, timeline_id: str) -> list[tuple[str, int, int]]:
    """(name, begin, end) of a timeline's records since the last read."""
    return [
        (record.name, record.begin_ns - BORN_NS, record.end_ns - BORN_NS)
        for record in on(rec.feed.drain(), timeline_id)
    ]


# Records


def test_work_is_a_record_on_each_device(rec: Recording) -> None:
    """With the id and the tags of its span, and the group around it as parent."""
    with rec.tracer._group("step") as group, rec.tracer.span("outer") as outer:
        work = rec.launch("x", ["a0", "b0"], tags={"step": 3}, after=[outer])
    rec.at(7)
    rec.wait.finish(work)
    batch = rec.feed.drain()
    host = next(record for record in flat(batch.records) if record.name == "x")
    expected = Record(
        "x", BORN_NS, BORN_NS + 7, host.id, group.id, DEVICE, {"step": 3}, (outer.id,)
    )
    assert [expected] == on(batch, "a0") == on(batch, "b0")
    kinds = {info.id: info.kind for info, _ in batch.records}
    assert TimelineKind.DEVICE is kinds["a0"]


def test_a_wait_is_a_record_of_its_own(rec: Recording) -> None:
    """On the queue's timeline, from the launch to the end of the work before."""
    first = rec.launch("first", ["a0"])
    rec.at(2)
    second = rec.launch("second", ["a0"])
    rec.at(5)
    rec.wait.finish(first)
    rec.at(9)
    rec.wait.finish(second)
    batch = rec.feed.drain()
    ran = on(batch, "a0")
    assert [("first", 0, 5), ("second", 5, 9)] == [
        (r.name, r.begin_ns - BORN_NS, r.end_ns - BORN_NS) for r in ran
    ]
    expected = Record(
        "queue",
        BORN_NS + 2,
        BORN_NS + 5,
        ran[1].id,
        0,
        QUEUED,
        {"NAME": "second"},
        None,
    )
    assert [expected] == on(batch, "a0_queue")


def test_work_in_flight_has_an_open_record(rec: Recording) -> None:
    """From its launch, on the queue of each device."""
    with rec.tracer._group("step") as group:
        rec.at(3)
        rec.launch("x", ["a0", "b0"], tags={"step": 3}, after=[7])
        opened = rec.feed.drain().open
    found = {info.id: Record(*records[0]) for info, records in opened}
    record = found["a0_queue"]
    assert record == found["b0_queue"]
    expected = ("x", BORN_NS + 3, OPEN, record.id, group.id, DEVICE, {"step": 3}, (7,))
    assert expected == tuple(record)


def test_work_without_arrays_ends_with_its_span(rec: Recording) -> None:
    """There is nothing to wait for."""
    with rec.tracer.span("x", ["a0"]):
        rec.at(4)
    rec.at(9)
    assert [("x", 0, 4)] == timeline(rec, "a0")


def test_work_that_ended_before_its_launch(rec: Recording) -> None:
    """A clock that is behind gives a span of no length, not one of a negative."""
    work = rec.launch("x", ["a0"])
    rec.clock.advance_ns(-5)
    rec.wait.finish(work)
    assert [("x", 0, 0)] == timeline(rec, "a0")


def test_failed_work_bears_its_error(rec: Recording) -> None:
    """Its device span does; the host span and the tags of others do not."""
    tags = {"step": 1}
    failed = rec.launch("failed", ["a0"], tags=tags)
    fine = rec.launch("fine", ["a0"], tags=tags)
    rec.wait.fail(failed, RuntimeError("out of memory"))
    rec.wait.finish(fine)
    found = [(r.name, r.kind == DEVICE, r.tags) for r in rec.read() if r.kind != QUEUED]
    error = {"step": 1, "error": "RuntimeError: out of memory"}
    assert ("failed", True, error) in found
    assert 3 == found.count(("failed", False, tags)) + 2 * found.count(
        ("fine", True, tags)
    )
    assert 1 == rec.tracer.stats().failed


def test_an_error_that_cannot_say_what_it_is(rec: Recording) -> None:
    """The work's span is recorded, and the work after it."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    failed, fine = (rec.launch(name, ["a0"]) for name in ("failed", "fine"))
    rec.wait.fail(failed, BrokenError())
    rec.wait.finish(fine)
    found = [r.tags for r in rec.read() if r.kind == DEVICE]
    assert [{"error": "BrokenError"}, None] == found


def test_concurrent_work_may_overtake() -> None:
    """It is left as it is, and makes nothing else wait."""
    rec = Recording(["a0"], concurrent=frozenset(["rollout"]))
    first, second = (rec.launch("rollout", ["a0"]) for _ in range(2))
    train = rec.launch("train", ["a0"])
    for time_ns, work in enumerate((second, train, first), start=1):
        rec.at(time_ns)
        rec.wait.finish(work)
    found = [("rollout", 0, 1), ("train", 0, 2), ("rollout", 0, 3)]
    assert found == timeline(rec, "a0")


def test_all_work_may_be_concurrent() -> None:
    """By one word."""
    rec = Recording(["a0"], concurrent="all")
    works = [rec.launch("x", ["a0"]) for _ in range(2)]
    for time_ns, work in enumerate(works[::-1], start=1):
        rec.at(time_ns)
        rec.wait.finish(work)
    assert [("x", 0, 1), ("x", 0, 2)] == timeline(rec, "a0")


def test_names_that_cannot_be_hashed_are_not_concurrent() -> None:
    """Nor an error."""
    rec = Recording(["a0"], concurrent=frozenset(["rollout"]))
    rec.wait.finish(rec.launch(["rollout"], ["a0"]))  # type: ignore[arg-type]
    assert [("['rollout']", 0, 0)] == timeline(rec, "a0")


def test_devices_do_not_wait_for_each_other(rec: Recording) -> None:
    """A queue is a device's own."""
    slow, fast = rec.launch("slow", ["a0"]), rec.launch("fast", ["b0"])
    rec.at(1)
    rec.wait.finish(fast)
    rec.at(5)
    rec.wait.finish(slow)
    batch = rec.feed.drain()
    assert [BORN_NS + 5] == [record.end_ns for record in on(batch, "a0")]
    assert [BORN_NS + 1] == [record.end_ns for record in on(batch, "b0")]
    assert [] == on(batch, "b0_queue")


def test_work_of_several_devices_waits_only_where_one_is_busy(rec: Recording) -> None:
    """On the others it begins at once, whichever of them come first."""
    before = rec.launch("before", ["b0"])
    work = rec.launch("x", ["a0", "a1", "b0", "b1"])
    rec.at(5)
    rec.wait.finish(before)
    rec.at(8)
    rec.wait.finish(work)
    batch = rec.feed.drain()
    assert [0, 0, 5, 0] == [
        on(batch, device)[-1].begin_ns - BORN_NS for device in ("a0", "a1", "b0", "b1")
    ]


def test_devices_in_one_state_share_their_record(rec: Recording) -> None:
    """A mesh of many devices takes the memory of one."""
    for _ in range(2):  # The name is known the second time.
        rec.wait.finish(rec.launch("x", ["a0", "a1"]))
        assert 2 == rec.tracer._devices.count
        first, second = [records for _, records in rec.feed.drain().records[-2:]]
    assert first[0] is second[0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12))
def test_work_of_one_device_is_put_in_a_row(steps: list[tuple[int, int]]) -> None:
    """No two overlap, waits neither; each ends where it did and not before the last."""
    rec = Recording(["a0"])
    works, expected_ends = [], []
    for gap_ns, _ in steps:
        rec.clock.advance_ns(gap_ns)
        works.append((rec.clock.now_ns, rec.launch("x", ["a0"])))
    for (_, length_ns), (_, work) in zip(steps, works, strict=True):
        rec.clock.advance_ns(length_ns)
        rec.wait.finish(work)
        expected_ends.append(rec.clock.now_ns)
    batch = rec.feed.drain()
    ran, waited = on(batch, "a0"), on(batch, "a0_queue")
    assert expected_ends == [record.end_ns for record in ran]
    for some in (ran, waited):
        for before, after in itertools.pairwise(some):
            assert before.end_ns <= after.begin_ns
    begins = {record.id: record.begin_ns for record in ran}
    launches = dict(zip(begins, (launch for launch, _ in works), strict=True))
    for record in waited:
        assert launches[record.id] <= record.begin_ns < record.end_ns
        assert begins[record.id] == record.end_ns


def test_work_that_goes_on_is_one_span(rec: Recording) -> None:
    """What was handed over after the first arrays were ready belongs to it."""
    first, second = rec.wait.arrays("1"), rec.wait.arrays("2")
    with rec.tracer.span("x", ["a0"]) as span:
        span.device_end(first)
        rec.at(2)
        rec.wait.finish(first)
        span.device_end(second)
    rec.at(6)
    rec.wait.finish(second)
    assert [("x", 0, 6)] == timeline(rec, "a0")


# Which group work belongs to


def test_work_belongs_to_the_innermost_group_of_its_own_thread(rec: Recording) -> None:
    """On the main thread through the spans around it."""
    with rec.tracer._group("step") as step, rec.tracer._group("micro") as micro:
        with rec.tracer.span("outer"):
            late = rec.launch("x", ["a0"])
    rec.launch("outside", ["b0"])
    rec.wait.finish(late)
    assert [micro.id] == [record.parent_id for record in on(rec.feed.drain(), "a0")]
    assert step.id != micro.id


def test_work_of_another_thread_belongs_to_the_main_threads_group(
    rec: Recording,
) -> None:
    """Its own groups do not show on devices."""

    def work() -> None:
        with rec.tracer._group("own"), rec.tracer.span("x", ["a0"]):
            pass

    with rec.tracer._group("step") as step:
        with rec.tracer.span("outer"):
            in_thread(work)
    batch = rec.feed.drain()
    assert [step.id] == [record.parent_id for record in on(batch, "a0")]
    own = next(record for record in flat(batch.records) if record.name == "own")
    assert GROUP == own.kind


# Devices in every form


def ids(lines: tuple[Any, ...]) -> list[str]:
    """The ids of timelines."""
    return [line.info.id for line in lines]


def mesh(*names: str) -> Any:
    """What a Mesh has of devices."""
    return SimpleNamespace(devices=np.array(names, dtype=object))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ["a0", "b0"],
        lambda: ("a0", "b0"),
        lambda: [["a0"], ["b0"]],
        lambda: (["a0"], "b0"),
        lambda: {"b0", "a0"},
        lambda: mesh("a0", "b0"),
        lambda: np.array(["a0", "b0"], dtype=object),
        lambda: ["a0", None, "b0", "a0"],
        lambda: (name for name in ("a0", "b0")),
    ],
)
def test_equal_devices_give_the_same_tuple(make: Any) -> None:
    """Whatever their form, at every call: it is the key of their waits."""
    devices = Devices(first_only=False)
    lines = devices.resolve(["a0", "b0"])
    assert ["a0", "b0"] == ids(lines)
    assert lines is devices.resolve(make()) is devices.resolve(make())


def test_other_devices_give_another_tuple() -> None:
    """Order counts: work in other order is other work."""
    devices = Devices(first_only=False)
    found = [devices.resolve(some) for some in (["a0", "b0"], ["b0", "a0"], "a0", [])]
    assert [["a0", "b0"], ["b0", "a0"], ["a0"], []] == [ids(lines) for lines in found]
    assert found[0][0] is found[1][1] is found[2][0]


def test_one_object_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesh is the same object at every step; looking into it costs time."""
    devices, asked = Devices(first_only=False), []
    known = mesh("a0")
    resolve = ids_module.device_ids

    def counted(some: Any) -> list[str]:
        asked.append(some)
        return resolve(some)

    monkeypatch.setattr(devices_module, "device_ids", counted)
    for some in (known, known, ["a0"], ["a0"], "a0", "a0", ("b0",), ("b0",)):
        assert [some[0] if isinstance(some, tuple) else "a0"] == ids(
            devices.resolve(some)
        )
    assert 4 == len(asked)


def test_an_object_given_anew_is_looked_into_again() -> None:
    """Two meshes may come to lie at one address."""
    devices = Devices(first_only=False)
    for number in range(20):
        assert [f"a{number}"] == ids(devices.resolve(mesh(f"a{number}")))


def test_changed_lists_are_seen() -> None:
    """A list is known by what is in it."""
    devices, some = Devices(first_only=False), ["a0"]
    assert ["a0"] == ids(devices.resolve(some))
    some.append("b0")
    assert ["a0", "b0"] == ids(devices.resolve(some))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forms that never come back take no memory for long."""
    monkeypatch.setattr(devices_module, "_MAX_REMEMBERED", 3)
    devices = Devices(first_only=False)
    sizes = set()
    for number in range(10):
        devices.resolve([f"a{number}"])
        devices.resolve(mesh(f"a{number}"))
        sizes.add((len(devices._by_value), len(devices._by_identity)))
    assert {(1, 1), (2, 2), (3, 3)} == sizes


def test_arrays_that_were_computed_are_not_kept() -> None:
    """An array on devices says which they are; it is not held for that."""
    devices, array = Devices(first_only=False), jnp.ones(3)
    assert 1 == len(devices.resolve(array))
    known = weakref.ref(array)
    del array
    gc.collect()
    assert known() is None


def test_all_devices_of_a_set_make_its_key() -> None:
    """Also where the first stands for all: tracers of both kinds share a thread."""
    one, all_ = Devices(first_only=True), Devices(first_only=False)
    keys = [each.resolve(["a0", "b0"]).key for each in (one, all_)]
    assert keys[0] == keys[1] != one.resolve(["a0"]).key
    assert ["a0"] == [line.info.id for line in one.resolve(["a0", "b0"])]


def test_the_first_device_may_stand_for_all() -> None:
    """A span is recorded there alone; the tracer still has timelines for all."""
    rec = Recording(["a0", "b0"], first_device_only=True)
    with rec.tracer.span("x", ["b0", "a0"]):
        pass
    batch = rec.feed.drain()
    assert (0, 1) == (len(on(batch, "a0")), len(on(batch, "b0")))
    assert ["a0", "b0"] == rec.tracer.all_devices


def test_devices_met_later_are_known_from_then_on(rec: Recording) -> None:
    """In the order in which they were met."""
    rec.launch("x", ["c0", "b0"])
    assert ["a0", "c0", "b0"] == rec.tracer.all_devices


@pytest.mark.parametrize("wrong", [3, object(), ["a0", 3], {"a0": 1}, b"a0"])
def test_what_is_no_device(
    rec: Recording, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The span stays on the host; what was given is named once in the log."""
    for _ in range(2):
        with rec.tracer.span("x", wrong):
            pass
    assert ["x", "x"] == [record.name for record in rec.read()]
    assert 1 == caplog.text.count("span 'x': unsupported device")
    with pytest.raises(ValueError, match="unsupported device"):
        Recording([wrong])


@pytest.mark.parametrize("none", [[], (), None, np.array(None), [None]])
def test_no_devices(rec: Recording, none: Any) -> None:
    """Then the span is on the host alone, and nobody waits for its arrays."""
    work = rec.launch("x", none)
    assert ["x"] == [record.name for record in rec.read()]
    assert 0 == rec.tracer.stats().pending
    assert work is not None


def test_a_lock_that_somebody_holds_is_not_waited_for(rec: Recording) -> None:
    """For longer than there is patience; the records stay for the next time."""
    with rec.tracer.span("x", ["a0"]):
        pass
    devices = rec.tracer._devices
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with devices.lock:
            held.set()
            let_go.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    # Taken by a thread of its own: one that waits for ever is no reason to hang.
    found: SimpleQueue[Records | None] = SimpleQueue()
    taker = threading.Thread(target=lambda: found.put(devices.take(0)))
    taker.start()
    try:
        assert found.get(timeout=10) is None
    finally:
        let_go.set()
        holder.join()
        taker.join()
    taken = devices.take(0)
    assert taken is not None
    assert ["a0"] == [info.id for info, _ in taken]


def test_after_a_fork_a_device_has_no_records(rec: Recording) -> None:
    """Those of the parent are not taken; its timelines stay known."""
    with rec.tracer.span("x", ["a0"]):
        pass
    devices = rec.tracer._devices
    parents = devices.lock
    devices.forget()
    assert [] == devices.take()
    assert ["a0"] == list(devices.lines)
    assert parents is not devices.lock


def test_a_signal_handler_may_take_what_is_being_recorded() -> None:
    """No record goes onto a list that was taken, where nobody would count it."""
    devices, line = Devices(first_only=False), "tpu0"
    info = TimelineInfo(line, TimelineKind.DEVICE, line)
    taken: list[tuple[list[RawRecord], int]] = []
    count = 0

    def take(*_: object) -> None:
        taken.extend((some, len(some)) for _, some in devices.take() or ())

    previous = signal.signal(signal.SIGALRM, take)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        while len(taken) < 300 and count < 1_000_000:
            with devices.lock:
                devices._add(info, ())
            count += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    take()
    assert len(taken) >= 300
    assert all(len(some) == then for some, then in taken)
    assert count == sum(then for _, then in taken)
