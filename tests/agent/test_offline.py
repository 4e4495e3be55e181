"""Orders that are given while no daemon runs are as good as those given to one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_world import World

from agent import offline
from agent.adapters.model_store import ModelStore
from agent.adapters.state_file import StateFile
from agent.config import Config, Device
from agent.core import commands as do
from agent.core import events as ev
from agent.core.state import Models, Phase, Round, Standing, State, Wish, durable
from agent.core.step import step
from agent.home import Home, HomeError

WISH = Wish("t1", ("lime",), 30)
PHASES = [phase for phase in Phase if phase is not Phase.IDLE]


def config_for(folder: Path) -> Config:
    return Config(device=Device(name="cam", state_dir=str(folder)))


def left_by_a_daemon(folder: Path, world: World, phase: Phase) -> State:
    """A state folder whose daemon died in `phase` of its first round; on probation generation 2 is active already."""
    store = ModelStore(folder)
    store.promote(store.import_bundle(world.student, [world.public]))
    models = Models(1, labels=("a",))
    if phase is Phase.PROBATION:
        store.promote(store.import_bundle(world.student, [world.public]))
        models = Models(2, 1, 2, Standing.PROVING, ("a",))
    state = State(models=models, phase=phase, round=Round("job-000001", WISH, "head", False))
    StateFile(Home(folder).state).save(state)
    return state


def next_start(folder: Path) -> tuple[State, list[do.Command]]:
    store = ModelStore(folder)
    active, previous = store.active(), store.previous()
    state = StateFile(Home(folder).state).load()
    assert active and state
    return step(state, ev.Started(1.0, active[0], previous[0] if previous else None, ("a",)), config_for(folder))


@pytest.mark.spec("14.1", "14.2")
@pytest.mark.parametrize("phase", PHASES)
def test_a_round_is_cancelled_in_any_phase(tmp_path: Path, world: World, phase: Phase) -> None:
    left_by_a_daemon(tmp_path, world, phase)
    assert offline.order(config_for(tmp_path), "cancel") == {"accepted": "cancel", "daemon": "not running"}
    active = ModelStore(tmp_path).active()
    assert active is not None and active[0] == 1
    state, commands = next_start(tmp_path)
    assert state.phase is Phase.IDLE and state.models.active == 1 and state.failures == 0
    ended = {command.state for command in commands if isinstance(command, do.ReportJob)}
    assert ended == {"CANCELED"}  # the operator hears of it when the daemon is there again
    assert do.CloseJob("job-000001", False, 2 if phase is Phase.PROBATION else None) in commands


@pytest.mark.parametrize("damage", [None, "torn"])
def test_without_a_round_there_is_nothing_to_cancel(tmp_path: Path, damage: str | None) -> None:
    file = StateFile(Home(tmp_path).state)
    file.save(State(models=Models(1)))
    if damage:
        (tmp_path / "state.json").write_text("{ torn")
    assert offline.order(config_for(tmp_path), "cancel") == {"error": "no learning round is under way"}


def test_a_folder_in_use_is_left_alone(tmp_path: Path, world: World) -> None:
    state = left_by_a_daemon(tmp_path, world, Phase.TRAINING)
    daemon = Home(tmp_path)
    daemon.take()
    for action in ("rollback", "cancel", "resume"):
        assert "another daemon is using" in offline.order(config_for(tmp_path), action)["error"]
    daemon.leave()
    left = StateFile(Home(tmp_path).state).load()
    assert left is not None and durable(left) == durable(state)
    Home(tmp_path).take()  # and nobody keeps it locked
    with pytest.raises(HomeError):
        Home(tmp_path).take()


def test_resuming_forgets_the_failures(tmp_path: Path) -> None:
    StateFile(Home(tmp_path).state).save(State(models=Models(1), failures=7, waiting=(WISH,)))
    assert offline.order(config_for(tmp_path), "resume")["accepted"] == "resume"
    left = StateFile(Home(tmp_path).state).load()
    assert left is not None and left.failures == 0 and left.waiting == (WISH,)
