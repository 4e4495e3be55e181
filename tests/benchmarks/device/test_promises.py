"""A promise that is not kept is found, and one that is kept is not called broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tiny_world import World, make

from agent.adapters.model_store import ModelStore
from agent.adapters.sample_store import SampleStore
from agent.adapters.state_file import StateFile
from agent.core.state import Models, State
from benchmarks.device.promises import OnDisk, Promises, look
from transfer import wire

STATE = State(models=Models(active=1), handled_ids=("t1", "o1"), rounds_begun=1)
FOUND = OnDisk(STATE, 1, frozenset({"s1", "s2"}), ())


def job(state: Literal["QUEUED", "SUCCEEDED", "FAILED"], trigger: str = "t1") -> wire.JobUpdate:
    return wire.JobUpdate(
        device="d", session=1, at_utc=0.0, trigger_id=trigger, categories=("c",), state=state, generation=None
    )


def event(kind: str, generation: int) -> wire.Event:
    return wire.Event(device="d", session=1, seq=1, at_utc=0.0, kind=kind, detail={"generation": generation})


@pytest.fixture
def promises() -> Promises:
    made = Promises(samples={"s1", "s2"}, published={"t1"})
    made.hear(job("QUEUED"))
    made.ordered("o1")
    return made


def wrong(promises: Promises) -> list[str]:
    return [*promises.broken, *promises.repeated]


def test_what_is_kept_is_not_called_broken(promises: Promises) -> None:
    promises.check(FOUND)
    promises.hear(job("SUCCEEDED"))
    promises.hear(job("SUCCEEDED"))  # told once more after a restart
    promises.finish()
    assert wrong(promises) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(FOUND, sample_ids=frozenset({"s1"})), "1 acknowledged samples are gone"),
        (replace(FOUND, state=replace(STATE, handled_ids=("o1",))), "trigger t1 is forgotten"),
        (replace(FOUND, state=replace(STATE, handled_ids=("t1",))), "order o1 is forgotten"),
        (replace(FOUND, state=None), "there is no state though orders were acknowledged"),
        (replace(FOUND, state=replace(STATE, rounds_begun=2)), "2 rounds for 1 triggers"),
    ],
)
def test_what_is_gone_or_done_twice_is_found_once(promises: Promises, found: OnDisk, said: str) -> None:
    promises.check(found)
    promises.check(found)
    assert wrong(promises) == [said]


def test_a_trigger_has_one_ending(promises: Promises) -> None:
    promises.hear(job("SUCCEEDED"))
    promises.hear(job("FAILED"))
    assert len(promises.repeated) == 1


def test_a_promised_generation_stays_active_until_a_newer_one_or_an_order(promises: Promises) -> None:
    promises.hear(event("promoted", 2))
    promises.check(replace(FOUND, active=2))
    promises.check(replace(FOUND, active=3))  # a promotion under way, of which nobody has heard yet
    assert wrong(promises) == []
    promises.check(replace(FOUND, active=1))
    assert promises.broken == ["generation 1 is active; 3 was promised, 3 the newest"]


def test_a_promotion_that_nobody_was_told_of_is_known_from_the_disk(promises: Promises) -> None:
    """Or whoever gives orders would wait for ever for something that can be undone."""
    promises.hear(event("promoted", 2))
    promises.uncertain()
    promises.hear(event("rolled_back", 1))
    promises.check(replace(FOUND, active=3))
    assert promises.expected == 3
    promises.uncertain()
    promises.check(replace(FOUND, active=4))
    assert promises.expected is None and wrong(promises) == []


def test_a_model_that_the_device_gave_up_was_not_lost(promises: Promises) -> None:
    promises.hear(event("promoted", 2))
    promises.check(replace(FOUND, active=1, given_up=2))
    assert wrong(promises) == [] and promises.expected == 1


def test_an_order_makes_it_uncertain_until_its_effect_is_heard(promises: Promises) -> None:
    promises.hear(event("promoted", 2))
    promises.uncertain()
    promises.check(replace(FOUND, active=1))
    promises.check(replace(FOUND, active=2))
    promises.hear(event("rolled_back", 1))
    promises.check(replace(FOUND, active=1))
    assert wrong(promises) == []
    promises.check(replace(FOUND, active=2))
    assert len(promises.broken) == 1


def test_going_back_further_than_ordered_is_a_repetition(promises: Promises) -> None:
    promises.floor = 2
    promises.check(replace(FOUND, active=1))
    assert len(promises.repeated) == 1


def test_what_never_ends_is_found_at_the_end(promises: Promises) -> None:
    promises.shown |= {"a.png", "b.png"}
    promises.judged.add("a.png")
    promises.published.add("t2")
    promises.finish()
    assert promises.broken == [
        "trigger t1 was acknowledged and never ended",
        "trigger t2 was published and never acknowledged",
        "1 images never got a verdict, such as b.png",
    ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("world"))


def test_a_state_folder_is_read_from_outside(tmp_path: Path, tiny: World) -> None:
    models = ModelStore(tmp_path)
    models.promote(models.import_bundle(tiny.student, [tiny.public]))
    assert StateFile(tmp_path / "state.json").save(STATE)
    store = SampleStore(tmp_path / "samples.db")
    store.add("s1", np.zeros((4, 4, 3), np.uint8), np.zeros(3, np.float32), 0.5, "a", 0.0)
    found = look(tmp_path)
    assert (found.state, found.active, found.sample_ids, found.corrupt) == (STATE, 1, {"s1"}, ())
    store.close()
    (models.path(1) / "model.tflite").write_bytes(b"damaged")
    (tmp_path / "state.json").write_bytes(b"{")
    (tmp_path / "samples.db").write_bytes(b"no database, whatever its name may be")
    found = look(tmp_path)
    assert (found.state, found.active) == (None, None) and len(found.corrupt) == 3
