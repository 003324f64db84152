from __future__ import annotations

import copy
import enum
import pickle
from typing import Any

import pytest

from perf._model.spans import DEVICE, GROUP, TimelineInfo, TimelineKind
from perf._write.layout import Layout, V1Layout, V2Layout
from tests.write.traces import (
    MAIN,
    QUEUE,
    SERVER,
    TPU,
    WORKER,
    batch,
    shown,
    span,
    written,
)
from tools.perfetto.trace_processor import Slice, TraceProcessor, threads

TOP = ("train.py", "Post-Training Run")
APART = {"rollout": ["tpu0"], "actor": ["tpu1"], "reference": ["tpu2"]}


def device(number: int) -> TimelineInfo:
    """The timeline of a device."""
    return TimelineInfo(f"tpu{number}", TimelineKind.DEVICE, f"tpu{number}")


def drawn(
    layout: Layout, *on: Any, opened: Any = ()
) -> list[tuple[tuple[str, ...], str]]:
    """The paths below the run's, and names, of what a layout shows."""
    rows = shown(written(batch(*on, opened=opened), layout=layout))
    assert all(row.track[:2] == TOP for row in rows)
    return sorted((row.track[2:], row.name or "") for row in rows)


def order(*on: Any, layout: Layout) -> list[str]:
    """The names of the tracks right under the run's, as they are ordered."""
    with TraceProcessor(written(batch(*on), layout=layout)) as tp:
        rows = tp.query(
            "select name, parent_id, extract_arg(source_arg_set_id,"
            " 'sibling_order_rank') as rank from track"
        )
    (top,) = {row["parent_id"] for row in rows if row["name"] == "Run"}
    under = [row for row in rows if row["parent_id"] == top]
    return [row["name"] for row in sorted(under, key=lambda row: row["rank"])]


class Role(enum.Enum):
    """As frameworks have it."""

    ROLLOUT = "rollout"
    ACTOR = "actor"


def test_v1_shows_roles_on_their_own_tracks_and_everything_on_its_own() -> None:
    """The role's spans are those of its first device; each span has its home too."""
    found = drawn(
        V1Layout({"rollout": ["tpu0", "tpu1"], "refer": ["tpu2"], "actor": ["tpu1"]}),
        (MAIN, [span(9, 5, 60, name="actor_training", kind=GROUP)]),
        (device(0), [span(1, 0, 5, name="rollout", kind=DEVICE)]),
        (
            device(1),
            [
                span(2, 0, 5, name="rollout", kind=DEVICE),
                span(3, 10, 50, name="peft_train_step", kind=DEVICE, parent=9),
            ],
        ),
        (device(2), [span(4, 0, 5, name="refer_inference", kind=DEVICE)]),
        (WORKER, [span(5, 0, 5, name="load")]),
        (SERVER, [span(6, 0, 5, name="generate")]),
    )
    assert [
        (("Actor",), "actor_training"),
        (("Actor",), "peft_train_step"),
        (("Devices", "tpu0"), "rollout"),
        (("Devices", "tpu1"), "peft_train_step"),
        (("Devices", "tpu1"), "rollout"),
        (("Devices", "tpu2"), "refer_inference"),
        (("Main",), "actor_training"),
        (("Main worker",), "load"),
        (("Reference",), "refer_inference"),
        (("Rollout",), "rollout"),
        (("server",), "generate"),
    ] == found


def test_the_training_step_lies_in_the_actors_group() -> None:
    """Both are on the track Actor, one in the other, though of different timelines."""
    data = written(
        batch(
            (MAIN, [span(9, 5, 60, name="actor_training", kind=GROUP)]),
            (
                device(1),
                [span(3, 10, 50, name="peft_train_step", kind=DEVICE, parent=9)],
            ),
        ),
        layout=V1Layout(APART),
    )
    rows = [row for row in shown(data) if row.track[-1] == "Actor"]
    assert [0, 1] == [row.depth for row in rows]


def test_a_group_that_is_open_shows_on_the_actors_track() -> None:
    """Copies grow as their originals do."""
    group = span(9, 5, name="actor_training", kind=GROUP)
    found = drawn(V1Layout(APART), opened=[(MAIN, [group])])
    assert [(("Actor",), "actor_training"), (("Main",), "actor_training")] == found


def test_v1_without_roles_has_no_tracks_of_roles() -> None:
    """Nothing is guessed."""
    spans = [span(1, 0, 5, name="rollout", kind=DEVICE)]
    assert [(("Devices", "tpu0"), "rollout")] == drawn(V1Layout(), (TPU, spans))


def test_v1s_four_tracks_come_first() -> None:
    """Then other threads, devices, counters, named tracks, and the run."""
    on = [
        (WORKER, [span(1, 0, 5)]),
        (SERVER, [span(2, 0, 5)]),
        (QUEUE, [span(8, 0, 5, kind=3)]),
        (device(2), [span(3, 0, 5, name="refer_inference", kind=DEVICE)]),
        (device(1), [span(4, 0, 5, name="peft_train_step", kind=DEVICE)]),
        (device(0), [span(5, 0, 5, name="rollout", kind=DEVICE)]),
        (MAIN, [span(6, 0, 5), ("tokens", 1, 2.0, 7, 0, 5, None, None)]),
    ]
    assert [
        "Main", "Rollout", "Reference", "Actor", "Main worker", "Devices", "Counters",
        "server", "Run",
    ] == order(*on, layout=V1Layout(APART))  # fmt: skip


def test_spans_handed_to_v1_by_hand_take_the_places_of_its_tracks() -> None:
    """Named tracks called like them stand where they would."""
    names = ["Actor", "other", "Main", "Reference", "Rollout"]
    on = [
        (TimelineInfo(name, TimelineKind.NAMED, name), [span(n + 1, 0, 5)])
        for n, name in enumerate(names)
    ]
    assert ["Main", "Rollout", "Reference", "Actor", "other", "Run"] == order(
        *on, layout=V1Layout()
    )


def test_v2_sorts_threads_by_what_they_do_and_devices_by_who_shares_them() -> None:
    """Roles with the same devices make one cluster, in whatever order they are."""
    roles = {
        Role.ROLLOUT: ["tpu1", "tpu0"], Role.ACTOR: ["tpu0", "tpu1"], "refer": ["tpu2"],
    }  # fmt: skip
    found = drawn(
        V2Layout(roles),
        (MAIN, [span(1, 0, 5, name="step")]),
        (WORKER, [span(2, 0, 5, name="rollout")]),
        (device(0), [span(3, 0, 5, name="rollout", kind=DEVICE)]),
        (QUEUE, [span(4, 0, 5, name="queue", kind=3)]),
        (device(2), [span(5, 0, 5, name="refer", kind=DEVICE)]),
        (device(7), [span(6, 0, 5, name="x", kind=DEVICE)]),
        (SERVER, [span(7, 0, 5, name="generate")]),
    )
    assert [
        (("Devices", "tpu7"), "x"),
        (("Host - Main threads", "host-1 MainThread"), "step"),
        (("Host - Rollout threads", "host-2 worker"), "rollout"),
        (("Reference Cluster", "tpu2"), "refer"),
        (("Rollout, Actor Cluster", "tpu0"), "rollout"),
        (("Rollout, Actor Cluster", "tpu0_queue"), "queue"),
        (("Tracks", "server"), "generate"),
    ] == found


def test_v2_decides_about_a_thread_when_it_first_sees_it() -> None:
    """A thread that began with rollouts stays where it is, and open spans count."""
    data = written(
        batch(opened=[(WORKER, [span(1, 0, name="rollout")])]),
        batch((WORKER, [span(1, 0, 5, name="rollout"), span(2, 6, 9, name="other")])),
        batch((MAIN, [span(3, 0, 5, name="rollout"), span(4, 6, 9, name="other")])),
        layout=V2Layout(),
    )
    assert {
        "Host - Rollout threads": {"rollout", "other"},
        "Host - Main threads": {"rollout", "other"},
    } == _names_by(shown(data))


def _names_by(rows: list[Slice]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.track[2], set()).add(row.name or "")
    return found


def test_v2s_tracks_are_in_order() -> None:
    """Hosts, clusters as given, other devices, counters, named tracks, the run."""
    on = [
        (SERVER, [span(1, 0, 5)]),
        (device(7), [span(2, 0, 5, kind=DEVICE)]),
        (device(2), [span(3, 0, 5, kind=DEVICE)]),
        (device(0), [span(4, 0, 5, kind=DEVICE)]),
        (WORKER, [span(5, 0, 5, name="rollout")]),
        (MAIN, [span(6, 0, 5), ("tokens", 1, 2.0, 7, 0, 5, None, None)]),
    ]
    roles = {"rollout": ["tpu0"], "refer": ["tpu2"]}
    assert [
        "Host - Main threads", "Host - Rollout threads", "Rollout Cluster",
        "Reference Cluster", "Devices", "Counters", "Tracks", "Run",
    ] == order(*on, layout=V2Layout(roles))  # fmt: skip


def test_documented_names_bear_the_tags() -> None:
    """Only on request: Perfetto groups slices by name."""
    spans = [span(1, 0, 5, name="rollout", tags={"step": 3})]
    for expected, layout in (
        ("rollout", V2Layout()),
        ("rollout (step=3)", V2Layout(documented_names=True)),
    ):
        (row,) = shown(written(batch((MAIN, spans)), layout=layout))
        assert (expected, {"step": 3}) == (row.name, row.args)


def test_two_threads_of_one_name_have_two_tracks() -> None:
    """Names are not who they are; nor are their slices merged."""
    twin = WORKER._replace(id="host-9", native_thread_id=19)
    data = written(
        batch((WORKER, [span(1, 0, 10)]), (twin, [span(2, 5, 15)])), layout=V1Layout()
    )
    assert [(0, 10), (5, 10)] == [(row.ts, row.dur) for row in shown(data)]


def test_threads_and_process_bear_their_real_names() -> None:
    """SQL finds them in Perfetto's own tables."""
    data = written(batch((MAIN, [span(1, 0, 5)]), (WORKER, [span(2, 0, 5)])))
    with TraceProcessor(data) as tp:
        found = {(t.pid, t.process, t.tid, t.thread) for t in threads(tp)}
    assert {
        (42, "train.py", 11, "MainThread"),
        (42, "train.py", 12, "worker"),
    } <= found


@pytest.mark.parametrize("layout", [V1Layout(APART), V2Layout(APART, True)])
def test_a_layout_is_configuration(layout: Layout) -> None:
    """Frameworks copy options deeply; processes pickle them."""
    assert layout == copy.deepcopy(layout) == pickle.loads(pickle.dumps(layout))
