"""The core's commands, carried out: quick ones at once, those that read models or write folders on one other thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from agent.adapters.memory import give_back, give_back_code
from agent.adapters.trainer_process import TrainerProcess
from agent.announcer import Announcer
from agent.config import Training
from agent.core import commands as do
from agent.core import events as ev
from agent.workshop import Workshop

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Execution:
    """`carry_out` is called by the loop's thread, in the commands' order; what fails comes back as an event.

    Slow commands run on `lane`, in order, so that a tick, an order or a full budget never waits for them.
    """

    def __init__(
        self,
        training: Training,
        workshop: Workshop,
        trainer: TrainerProcess,
        announcer: Announcer,
        lane: ThreadPoolExecutor,
        log: FilteringBoundLogger,
        put: Callable[[ev.Event], None],
        now: Callable[[], float],
    ) -> None:
        self._training, self._workshop, self._trainer, self._announcer = training, workshop, trainer, announcer
        self._lane, self._log, self._put, self._now = lane, log, put, now
        self.draining = False
        """Slow commands are left undone: the persisted state owes them, and the next start does them."""
        self._ordered = self._done = 0  # each counted by one thread

    def carry_out(self, command: do.Command) -> None:
        if isinstance(command, do.StartTrainer):
            self._start_trainer(command)
        elif isinstance(command, do.PauseTrainer):
            self._trainer.pause()
        elif isinstance(command, do.ResumeTrainer):
            self._trainer.resume()
        elif isinstance(command, do.StopTrainer):
            self._trainer.stop()
        elif isinstance(command, do.KillTrainer):
            self._trainer.kill()
        elif isinstance(command, do.ReportJob):
            self._announcer.job(command)
        elif isinstance(command, do.ReportEvent):
            self._announcer.event(command.kind, command.detail)
        elif not self.draining:
            self._ordered += 1
            self._lane.submit(self._in_workshop, command)

    def busy(self) -> bool:
        """Whether a slow command waits or is carried out, or none is to be any more."""
        return self._ordered > self._done or self.draining

    def besides(self, work: Callable[[], None]) -> bool:
        """Do `work` on the lane; it fails with a line only. False where something that matters more is to be done."""
        if self.busy():
            return False
        self._lane.submit(self._beside, work)
        return True

    def _beside(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._log.warning("side_work_failed", error=f"{type(error).__name__}: {error}")

    def _in_workshop(self, command: do.Command) -> None:
        try:
            for kind, detail in self._workshop.carry_out(command):
                self._announcer.event(kind, detail)
        except Exception:
            # A defect: the round must not hang on it, and the trace must be seen.
            self._log.exception("command_failed", command=type(command).__name__)
            for event in self._workshop.failure_of(command, "an unexpected error, see the log"):
                self._put(event)
        self._done += 1
        give_back()
        if isinstance(command, do.CloseJob):
            give_back_code()

    def _start_trainer(self, command: do.StartTrainer) -> None:
        training = self._training
        threads = training.threads or max(1, (os.cpu_count() or 1) - 1)
        try:
            self._trainer.start(
                self._workshop.trainable(command.job_id, command.tier, threads),
                nice=training.nice,
                memory_mib=training.memory_mib or None,
                cpu_percent=training.cpu_percent,
                threads=threads,
            )
        except (OSError, ValueError, RuntimeError) as error:
            self._put(ev.TrainerEnded(self._now(), command.job_id, "failed", str(error)))
