"""What the disk says of a daemon that does not run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_world import OLD, World

from agent.adapters.judgements import Judgements, judged
from agent.adapters.model_store import ModelStore
from agent.adapters.state_file import StateFile
from agent.config import Config, Device
from agent.core.state import Models, Phase, Round, State, Wish
from agent.home import Home
from agent.status import of_the_stopped
from agent.status_page import render


def config_for(folder: Path) -> Config:
    return Config(device=Device(name="cam", state_dir=str(folder)))


def test_of_a_stopped_daemon_what_the_disk_says(tmp_path: Path, world: World) -> None:
    home = Home(tmp_path)
    store = ModelStore(tmp_path)
    store.promote(store.import_bundle(world.student, [world.public]))
    wish = Wish("t1", ("lime",), 30)
    state = State(models=Models(1, labels=("amber",)), phase=Phase.TRAINING, round=Round("j", wish, "head", False))
    StateFile(home.state).save(state)
    status = of_the_stopped(config_for(tmp_path))
    assert (status["phase"], status["generation"], status["categories"]) == ("training", 1, ["lime"])
    text = render(status, colour=False)
    assert "cam  not running" in text and "the round goes on when it is" in text and "amber" in text


def test_of_one_that_was_idle_nothing_is_promised(tmp_path: Path) -> None:
    StateFile(Home(tmp_path).state).save(State(models=Models(1)))
    assert of_the_stopped(config_for(tmp_path))["reason"] == ""


def test_asking_changes_nothing_on_disk(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert of_the_stopped(config_for(missing))["phase"] == ""
    assert not missing.exists()
    (tmp_path / "state.json").write_text("{ torn")
    status = of_the_stopped(config_for(tmp_path))
    assert status["generation"] is None and "unknown" in render(status, colour=False)
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_torn_state_gives_way_to_its_copy(tmp_path: Path) -> None:
    file = StateFile(Home(tmp_path).state)
    idle = State(models=Models(1, labels=("amber",)))
    file.save(idle)
    file.save(replace(idle, rounds_begun=1))
    (tmp_path / "state.json").write_text("{ torn")
    assert of_the_stopped(config_for(tmp_path))["labels"] == ["amber"]


def test_a_damaged_pointer_is_no_generation(tmp_path: Path) -> None:
    ModelStore(tmp_path)
    (tmp_path / "models" / "pointer.json").write_text("{ torn")
    assert of_the_stopped(config_for(tmp_path))["generation"] is None


@pytest.mark.spec("18.3")
def test_the_model_of_a_stopped_daemon_is_known(tmp_path: Path, world: World) -> None:
    """Which it is, where it comes from, and how good it was found to be."""
    store = ModelStore(tmp_path)
    for _ in range(2):
        store.promote(store.import_bundle(world.student, [world.public]))
    found = judged(world.classifier(2), world.bundle(), 2, 86_400.0)
    Judgements(Home(tmp_path).judgements).add(world.bundle().digest, found)
    status = of_the_stopped(config_for(tmp_path))
    assert (status["generation"], status["previous"], status["labels"]) == (2, 1, list(OLD))
    text = render(status, colour=False)
    for part in ("generation 2, previous 1: amber", "the bundle tiny student, since 1970-01-02", "30 of 30 held-out"):
        assert part in text


def test_a_damaged_model_is_said_and_left_for_the_start_to_repair(tmp_path: Path, world: World) -> None:
    store = ModelStore(tmp_path)
    store.promote(store.import_bundle(world.student, [world.public]))
    (store.path(1) / "model.tflite").write_bytes(b"bit rot")
    status = of_the_stopped(config_for(tmp_path))
    assert status["generation"] == 1 and "the active model is damaged" in render(status, colour=False)
    assert (store.path(1) / "model.tflite").read_bytes() == b"bit rot"
