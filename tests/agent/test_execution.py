"""Commands go to who carries them out: the trainer's at once, slow ones in order on the lane, failures as events."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from agent.config import Training
from agent.core import commands as do
from agent.core import events as ev
from agent.execution import Execution


@dataclass
class Shop:
    """Writes down what it is asked; a promotion is a defect."""

    did: list[object] = field(default_factory=list)

    def carry_out(self, command: do.Command) -> list[tuple[str, dict[str, Any]]]:
        self.did.append(command)
        if isinstance(command, do.Promote):
            raise KeyError("a defect")
        return [("done", {"what": type(command).__name__})]

    def failure_of(self, command: do.Command, why: str) -> Iterator[ev.Event]:
        yield ev.PromotionFailed(1.0, 3, why)

    def trainable(self, job_id: str, tier: str, threads: int) -> Path:
        return Path(f"{job_id}-{tier}-{threads}")


@dataclass
class Trainer:
    did: list[str] = field(default_factory=list)
    refuses: bool = False

    def start(self, folder: Path, **limits: object) -> None:
        if self.refuses:
            raise RuntimeError("a trainer is running already")
        self.did.append(f"start {folder} nice {limits['nice']}")

    def __getattr__(self, name: str) -> Any:
        return lambda: self.did.append(name)


@dataclass
class Announced:
    said: list[object] = field(default_factory=list)

    def job(self, report: do.ReportJob) -> None:
        self.said.append(report)

    def event(self, kind: str, detail: dict[str, Any]) -> None:
        self.said.append((kind, detail))


class Scene:
    def __init__(self) -> None:
        self.shop, self.trainer, self.announced, self.log = Shop(), Trainer(), Announced(), LogCapture()
        self.put: list[ev.Event] = []
        self.lane = ThreadPoolExecutor(1)
        self.execution = Execution(
            Training(threads=2, nice=7),
            self.shop,  # type: ignore[arg-type]
            self.trainer,  # type: ignore[arg-type]
            self.announced,  # type: ignore[arg-type]
            self.lane,
            structlog.wrap_logger(None, processors=[self.log]),
            self.put.append,
            lambda: 1.0,
        )

    def carry_out(self, *commands: do.Command) -> None:
        for command in commands:
            self.execution.carry_out(command)
        self.lane.submit(int).result()  # what was given to the lane before is done


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_trainers_commands_reach_it_in_order(scene: Scene) -> None:
    scene.carry_out(do.StartTrainer("j", "sparse"), do.PauseTrainer("j"), do.ResumeTrainer("j"), do.StopTrainer("j"))
    scene.carry_out(do.KillTrainer("j"))
    assert scene.trainer.did == ["start j-sparse-2 nice 7", "pause", "resume", "stop", "kill"]


def test_a_trainer_that_cannot_start_has_ended(scene: Scene) -> None:
    scene.trainer.refuses = True
    scene.carry_out(do.StartTrainer("j", "head"))
    assert scene.put == [ev.TrainerEnded(1.0, "j", "failed", "a trainer is running already")]


def test_slow_commands_are_done_in_order_and_what_comes_of_them_is_said(scene: Scene) -> None:
    slow = [do.AskTeacher("j"), do.JudgeCandidate("j"), do.CloseJob("j", learned=False, candidate=None)]
    scene.carry_out(*slow, do.ReportEvent("promoted", {"generation": 3}))
    assert scene.shop.did == slow
    assert ("promoted", {"generation": 3}) in scene.announced.said
    assert ("done", {"what": "CloseJob"}) in scene.announced.said


def test_a_defect_becomes_the_commands_failure(scene: Scene) -> None:
    scene.carry_out(do.Promote(3))
    assert scene.put == [ev.PromotionFailed(1.0, 3, "an unexpected error, see the log")]
    assert [entry["event"] for entry in scene.log.entries] == ["command_failed"]


def test_while_draining_slow_commands_are_left_to_the_next_start(scene: Scene) -> None:
    scene.execution.draining = True
    scene.carry_out(do.AskTeacher("j"), do.StopTrainer("j"))
    assert scene.shop.did == [] and scene.trainer.did == ["stop"]


def test_side_work_is_left_where_something_that_matters_more_is_to_be_done(scene: Scene) -> None:
    did: list[str] = []
    gate = threading.Event()
    scene.lane.submit(gate.wait)
    scene.execution.carry_out(do.AskTeacher("j"))
    assert scene.execution.busy() and not scene.execution.besides(lambda: did.append("probe"))
    gate.set()
    scene.lane.submit(int).result()
    assert not scene.execution.busy() and scene.execution.besides(lambda: did.append("probe"))
    scene.lane.submit(int).result()
    assert did == ["probe"] and scene.shop.did == [do.AskTeacher("j")]


def test_side_work_that_fails_is_a_line(scene: Scene) -> None:
    def fail() -> None:
        raise OSError(28, "No space left")

    assert scene.execution.besides(fail)
    scene.lane.submit(int).result()
    assert [entry["event"] for entry in scene.log.entries] == ["side_work_failed"] and not scene.put
    scene.execution.draining = True
    assert not scene.execution.besides(fail)
