"""A promoted model that is cancelled, or fails in life: the previous one is back, and the disk is as it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_fleet import Fleet, Models
from tiny_world import INPUT, OLD, World, make, mixed
from tiny_world import NEW as LIME

from cloud_teacher.datasets import Dataset
from demo.broker import Broker
from transfer import wire

pytestmark = pytest.mark.e2e

LABELLED = 60
OVERRIDES: dict[str, dict[str, Any]] = {
    "source": {"folder_labels": True},
    "training": {"tier": "head", "threads": 1, "nice": 0},
    "gate": {"max_old_drop": 1.0, "max_category_drop": 1.0, "min_new": 0.0},
    "probation": {"frames": 1000, "min_frames": 10},
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "world").mkdir()
    return make(tmp_path / "world")


@pytest.fixture
def colours(world: World) -> tuple[Models, Dataset, str]:
    """The tiny world as a fleet's: what matters here is not how well it is learned, and this is made in a second."""
    parts = [mixed((*OLD, LIME), each, seed) for each, seed in ((60, 7), (30, 8))]
    data = Dataset("colours", (*OLD, LIME), *parts[0], *parts[1], input=INPUT, flip=False)
    return Models(world.student, world.teacher, world.folder / "key"), data, LIME


def model_of(fleet: Fleet) -> tuple[dict[str, bytes], dict[str, Any]]:
    """All that says which model serves, with the model, and what the state says of it."""
    models = fleet.state / "models"
    files = [models / "pointer.json", models / "pointer.bak", *models.glob("generations/*/*")]
    state = json.loads((fleet.state / "state.json").read_bytes())
    return {str(path.relative_to(models)): path.read_bytes() for path in files}, state["models"]


def told(fleet: Fleet, name: str) -> list[dict[str, Any]]:
    """The lines of that name in the agent's log."""
    lines = (fleet.scene / "agent-1.log").read_text().splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in found if line["event"] == name]


def at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")).timestamp()


@pytest.mark.timeout(240)
@pytest.mark.spec("10.4", "10.5", "14.1", "14.2")
def test_a_cancelled_and_a_failing_model_leave_the_device_as_it_was(
    mosquitto: Broker, make_fleet: Callable[..., Fleet], colours: tuple[Models, Dataset, str]
) -> None:
    fleet = make_fleet(mosquitto, of=colours, **OVERRIDES)
    fleet.start_agent()
    fleet.drop_labelled("new", LIME, fleet.images(LIME, test=False)[:LABELLED])
    known = next(label for label in fleet.data.labels if label != LIME)
    fleet.await_served(fleet.drop("warm", known, fleet.images(known, test=False)[:5]))

    fleet.trigger(30, "cancelled")
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "promoted")
    assert fleet.status()["generation"] == 2
    assert fleet.command("cancel").returncode == 0
    ending = fleet.await_end()
    assert (ending.trigger_id, ending.state) == ("cancelled", "CANCELED"), ending
    before = settled(fleet)
    assert set(before[0]) == {"pointer.json", "pointer.bak", *generation_files(fleet, 1)}
    assert before[1] == {**before[1], "active": 1, "previous": None, "candidate": None, "standing": "settled"}

    fleet.trigger(30, "failing")
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "promoted")
    strange = np.random.default_rng(0).integers(0, 256, (30, *fleet.images(known, test=True).shape[1:]), np.uint8)
    fleet.await_served(fleet.drop("strange", "nothing", strange))
    ending = fleet.await_end()
    assert (ending.trigger_id, ending.state) == ("failing", "FAILED") and "frames are novel" in ending.detail, ending
    assert settled(fleet) == before
    assert fleet.status()["generation"] == 1

    noticed = next(line for line in told(fleet, "reason") if line["reason"].startswith("rolled back: "))
    back = told(fleet, "rolled_back")[-1]
    assert at(noticed) <= at(back)
    print(f"from the regression to the previous model in service and on disk: {at(back) - at(noticed):.3f} s")
    assert len(fleet.feed.said) == LABELLED + fleet.feed.dropped_in, "an image was dropped"


def settled(fleet: Fleet) -> tuple[dict[str, bytes], dict[str, Any]]:
    """`model_of`, when what belonged to the round has been cleared away: that comes after its report."""
    generations, jobs = fleet.state / "models" / "generations", fleet.state / "jobs"
    until_s = time.monotonic() + 20
    while [*jobs.iterdir()] or [path.name for path in generations.iterdir()] != ["000001"]:
        assert time.monotonic() < until_s, [*jobs.iterdir(), *generations.iterdir()]
        time.sleep(0.1)
    return model_of(fleet)


def generation_files(fleet: Fleet, number: int) -> set[str]:
    models = fleet.state / "models"
    return {str(path.relative_to(models)) for path in Path(models / "generations" / f"{number:06d}").iterdir()}
