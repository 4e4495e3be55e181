"""What a person reads about a running and about a stopped daemon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_world import World

from agent.adapters.model_store import ModelStore
from agent.adapters.state_file import StateFile
from agent.config import Config, Device
from agent.core.state import Models, Phase, Round, State, Wish
from agent.home import Home
from agent.status import of_the_stopped, render

RUNNING: dict[str, Any] = {
    "device": "cam",
    "online": True,
    "phase": "training",
    "reason": "",
    "categories": ["lime"],
    "generation": 2,
    "previous": 1,
    "labels": ["amber", "teal"],
    "collected": 12,
    "wanted": 20,
    "privacy": "upload",
    "frames": 100,
    "novel_frames": 7,
    "dropped_frames": 0,
    "link": "5",
    "samples": 12,
    "outbox_messages": 3,
    "reading": {"cpu_percent": 12.3, "available_mib": 512.0, "temperature_c": None},
    "egress": {
        "operational": {"allowed_messages": 4, "allowed_bytes": 1500, "denied_messages": 0, "denied_bytes": 0},
        "image": {"allowed_messages": 0, "allowed_bytes": 0, "denied_messages": 0, "denied_bytes": 0},
    },
    "progress": {"stage": "train", "done": 3, "total": 12},
}


def test_a_running_daemon_in_lines() -> None:
    text = render(RUNNING, colour=False)
    for part in (
        "cam  running",
        "training 'lime'",
        "train 3 of 12",
        "12 of 20 samples",
        "generation 2, previous 1: amber, teal",
        "100 frames, 7 novel, 0 dropped",
        "3 messages wait",
        "CPU 12 %, 512 MiB free",
        "upload: operational 1.5 kB out, 0 denied",
    ):
        assert part in text
    assert "°C" not in text and "image" not in text and "because" not in text and "\033" not in text


def test_colour_only_adds_colour() -> None:
    coloured = render(RUNNING, colour=True)
    assert "\033[1mcam" in coloured
    for code in ("\033[0m", "\033[1m", "\033[2m"):
        coloured = coloured.replace(code, "")
    assert coloured == render(RUNNING, colour=False)


def test_what_has_not_left_is_said() -> None:
    assert "upload: nothing has left" in render({**RUNNING, "egress": {}}, colour=False)


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
