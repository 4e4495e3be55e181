"""The daemon: events into a queue, one at a time through `core.step`, the commands that come out carried out.

State is made durable before any command is carried out. Frames do not pass here at all: source -> inference ->
recorder, each with its thread.
"""

from __future__ import annotations

import contextlib
import math
import queue
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agent.adapters.control import Control
from agent.adapters.disk_trouble import DiskTrouble
from agent.adapters.inference import serve_promptly
from agent.adapters.journal import open_journal
from agent.adapters.memory import one_heap, settle
from agent.adapters.model_store import ModelStore
from agent.adapters.probes import Probes
from agent.adapters.pulse import Pulse, silence_s
from agent.adapters.resources import Machine, Resources
from agent.adapters.start_record import StartRecord
from agent.adapters.state_file import StateFile
from agent.adapters.trainer_process import Exit, TrainerProcess
from agent.adapters.wear import Wear
from agent.announcer import Announcer
from agent.assembly import open_metrics
from agent.bookkeeping import Bookkeeping
from agent.config import Config
from agent.core import events as ev
from agent.core.facts import LiveView, Reading
from agent.core.state import Models, Phase, State
from agent.core.step import step
from agent.description import Description
from agent.execution import Execution
from agent.first_model import first_model
from agent.home import Home
from agent.job import Progress
from agent.local_orders import LocalOrders
from agent.network import Network
from agent.serving import Serving
from agent.storage import Storage
from agent.workshop import Workshop
from transfer import signing, wire
from transfer.notify import Notifier

TICK_S = 1.0
SETTLE_S = 10.0
"""All that stays is loaded by then, and what only the start needed is given back."""
STAYS_UP_S = 60.0
"""A model with which the daemon has lived so long is not what would end it."""
LEDGER_S = 600.0
"""The egress ledger is written this often, where there is something to write: a card does not last for ever."""


class Daemon:
    """Owns every adapter's lifetime. `run` returns after SIGTERM or SIGINT."""

    def __init__(self, config: Config) -> None:
        one_heap()
        serve_promptly()
        self._config = config
        self._events: queue.SimpleQueue[tuple[ev.Event, Callable[[], None] | None]] = queue.SimpleQueue()
        self._stopping = False
        self._next_tick_at = self._now() + TICK_S
        self._next_ledger_at = self._now() + LEDGER_S
        self._settle_at = self._now() + SETTLE_S
        self._stays_up_at = self._now() + STAYS_UP_S
        self._next_probe_at = self._now() + min(SETTLE_S, config.probation.probe_every_s)
        self._lane = ThreadPoolExecutor(1, thread_name_prefix="workshop")
        self._log = open_journal(config.log.level, config.log.format)
        self._notifier = Notifier.from_environment()
        self._reading = Reading()
        self._progress: Progress | None = None

        self._home = Home(config.state_dir)
        self._home.take()
        key = self._home.key()
        self._session = self._home.next_session()
        self._models = ModelStore(self._home.folder)
        for repaired in self._models.repair():
            self._log.warning("model_store_repaired", what=repaired)
        # The model takes a processor for a moment, and databases wait for the card: both at once.
        self._start_record = StartRecord(self._home.start_record)
        loading = self._lane.submit(first_model, config, self._models, self._start_record)
        self._storage = storage = Storage(self._home, config)
        first = loading.result()
        classifier, active = first.classifier, first.classifier.generation
        previous = self._models.previous()
        state_file = StateFile(self._home.state)
        self._state = state_file.load() or State(models=Models(active=active))
        self._first = ev.Started(
            self._now(), active, previous[0] if previous else None, classifier.manifest.labels, first.given_up
        )
        storage.jobs.remove_all_but(*_jobs_of(self._state))
        self._lane.submit(self._models.collect_garbage, candidates=[self._state.models.candidate or active])

        topics = wire.Topics(config.device.prefix, config.device.fleet, config.device.name)
        self._announcer = Announcer(
            config,
            topics,
            self._session,
            signing.public_key_hex(key),
            self._log,
            lambda: (self._state, self._serving.inference.counters()),
        )
        self._serving = Serving(
            config,
            classifier,
            storage,
            self._log,
            publish=self._announcer.prediction,
            stored=lambda: self.put(ev.NovelSampleStored(self._now(), self._workshop.count_new())),
            live=self._on_live,
            group=lambda view: self.put(ev.GroupMeasured(self._now(), view)),
            sparing=lambda: self._state.sparing,
        )
        self._network = Network(
            config, topics, storage, self._home.teachers, self._announcer, self._log, self.put, self._now
        )
        self._trainer = TrainerProcess(self._on_progress, self._on_exit)
        self._workshop = Workshop(
            config,
            self._models,
            storage.samples,
            storage.jobs,
            self._network.teacher,
            self._serving.inference,
            storage.judgements,
            key,
            self.put,
            self._now,
        )
        self._execution = Execution(
            config.training,
            self._workshop,
            self._trainer,
            self._announcer,
            self._lane,
            self._log,
            self.put,
            self._now,
        )
        self._probes = Probes(
            storage.judgements,
            self._models.load,
            self._serving.inference,
            lambda *missed: self.put(ev.Probed(self._now(), *missed)),
            self._execution.busy,
            time.time,
        )
        self._books = Bookkeeping(state_file, self._state, self._execution.carry_out)
        self._disk = DiskTrouble({"state": lambda: self._books.trouble, **storage.troubles()}, self._log)
        self._orders = LocalOrders(
            {"rollback": ev.RollbackOrdered, "cancel": ev.CancelOrdered, "resume": ev.ResumeOrdered},
            self._session,
            self.put,
            self._now,
        )
        self._resources = Resources(self._machine, config.budget.sample_s, self._on_reading)
        self._pulse = Pulse(self._notifier, self._serving.signs_of_life(silence_s(self._notifier)), self._log)
        self._describe = Description(
            self._announcer,
            storage,
            self._serving,
            self._network,
            self._pulse,
            self._disk,
            self._trainer,
            self._probes,
            lambda: (self._state, self._reading, self._progress),
        )
        for name in self._home.damaged:
            self._log.error("file_not_usable", which=name)
        storage.report(self._log)
        for path in state_file.quarantined:
            self._log.error("state_quarantined", moved_to=str(path))

    # ------------------------------------------------------------------------------------------------ start and end

    def run(self) -> None:
        """Serve until told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._serving.start()
        self._network.start()
        control = self._open_control()
        metrics = open_metrics(self._config.log, self._describe, self._log)
        self._handle(self._first)
        self._serving.fetch()
        self._resources.start()
        self._notifier.ready()
        self._log.info(
            "started",
            device=self._config.device.name,
            generation=self._state.models.active,
            labels=list(self._state.models.labels),
            phase=self._state.phase.value,
            privacy=self._config.privacy.mode,
            session=self._session,
        )
        try:
            while not self._stopping:
                self._turn()
        finally:
            for one in metrics:
                one.close()
            self._drain(control)

    def _turn(self) -> None:
        """One event, or the tick that is due: by the clock, so a busy scene delays neither deadlines nor watchdog."""
        with contextlib.suppress(queue.Empty):
            event, safe = self._events.get(timeout=max(0.0, self._next_tick_at - self._now()))
            if event is not _WAKE:
                self._handle(event, safe)
        if self._now() >= self._next_tick_at:
            self._next_tick_at = self._now() + TICK_S
            self._tick()

    def _tick(self) -> None:
        self._handle(ev.Ticked(self._now()))
        self._books.catch_up()
        self._disk.look()
        self._announcer.status_if_changed()
        self._pulse.beat()
        if self._now() >= self._settle_at:
            self._settle_at = math.inf
            self._lane.submit(settle)  # there, because nothing is loaded while that thread does something else
        if self._now() >= self._stays_up_at:
            self._stays_up_at = math.inf
            self._start_record.settle()
        proving = self._state.phase is Phase.PROBATION
        if self._now() >= self._next_probe_at and self._execution.besides(lambda: self._probes.look(proving)):
            self._next_probe_at = self._now() + self._config.probation.probe_every_s
        if self._now() >= self._next_ledger_at:
            self._next_ledger_at = self._now() + LEDGER_S
            with contextlib.suppress(OSError):
                self._storage.ledger_file.save_unless_idle()

    def _open_control(self) -> Control | None:
        """None where the disk has no room for a socket: nobody can ask then, but images are served."""
        try:
            return Control(self._home.control, self._on_control)
        except OSError as error:
            self._log.error("control_not_open", error=str(error))
            return None

    def _drain(self, control: Control | None) -> None:
        """No new frame; what was taken in is served and recorded; a trainer leaves its checkpoint."""
        self._log.info("stopping")
        self._start_record.settle()
        self._notifier.stopping()
        self._execution.draining = True
        self._serving.close()
        self._handle(ev.StopOrdered(self._now()))
        self._trainer.close()
        self._lane.shutdown(wait=True)
        while True:
            with contextlib.suppress(queue.Empty):
                self._handle(*self._events.get_nowait())
                continue
            break
        self._network.close(self._announcer.status(online=False))
        self._resources.close()
        if control:
            control.close()
        self._storage.close()
        self._log.info("stopped", frames=self._serving.inference.counters().frames)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stopping = True
        self.put(_WAKE)

    def put(self, event: ev.Event, safe: Callable[[], None] | None = None) -> None:
        """From any thread. `safe` is called when what follows from the event is durable."""
        self._events.put((event, safe))

    @staticmethod
    def _now() -> float:
        return time.monotonic()

    def _machine(self) -> Machine:
        """Called by the thread that measures."""
        wear = Wear(self._home.written)
        if wear.unreadable:
            self._log.warning("written_unreadable", error=wear.unreadable)
        return Machine(self._home.folder, trainer_pid=lambda: self._trainer.pid, wear=wear)

    # ------------------------------------------------------------------------------------------------ the loop's heart

    def _handle(self, event: ev.Event, safe: Callable[[], None] | None = None) -> None:
        before = self._state
        self._state, commands = step(before, event, self._config)
        if self._state.phase is not before.phase:
            self._log.info("phase", phase=self._state.phase.value, was=before.phase.value, reason=self._state.reason)
            if self._state.phase is Phase.PROBATION:
                self._next_probe_at = self._now()
        elif self._state.reason != before.reason:
            self._log.info("reason", phase=self._state.phase.value, reason=self._state.reason)
        if (self._state.phase, self._state.reason) != (before.phase, before.reason):
            self._notifier.status(f"{self._state.phase.value} {self._state.reason}")
        self._books.follow(self._state, commands, safe)
        self._orders.taken(event, self._books.trouble[1])
        if commands or self._state.phase is not before.phase:
            self._announcer.status_if_changed()

    # ------------------------------------------------------------------------------------------------ what adapters say

    def _on_live(self, view: LiveView) -> None:
        if self._state.phase is Phase.PROBATION:
            self.put(ev.LiveMeasured(self._now(), view))

    def _on_reading(self, reading: Reading) -> None:
        self._reading = reading
        self.put(ev.BudgetMeasured(self._now(), reading))

    def _on_progress(self, progress: Progress) -> None:
        self._progress = progress
        current = self._state.round
        if current is not None:
            at = self._now()
            self.put(ev.TrainerProgressed(at, current.job_id, progress.done, progress.total, progress.stage))
        self._announcer.live_event(
            "progress", {"stage": progress.stage, "done": progress.done, "total": progress.total}
        )

    def _on_exit(self, ended: Exit) -> None:
        self._progress = None
        current = self._state.round
        self._log.info("trainer_ended", outcome=ended.reason, code=ended.code, detail=ended.detail[-500:])
        last_line = ended.detail.strip().splitlines()[-1:] or [""]
        job_id = current.job_id if current else ""
        self.put(ev.TrainerEnded(self._now(), job_id, ended.reason, last_line[0][:300]))

    def _on_control(self, request: dict[str, Any]) -> dict[str, Any]:
        action = request.get("do")
        if action == "status":
            return self._describe()
        models = self._state.models  # as they were before the order
        return {"generation": models.active, "previous": models.previous, **self._orders.give(action)}


_WAKE = ev.Ticked(-1.0)
"""Ends a wait without being an event."""


def _jobs_of(state: State) -> list[str]:
    """The job under way, and the last one: closing it may be what the former life did not get to."""
    jobs = [state.round.job_id] if state.round else []
    return jobs + ([state.last_ending.close.job_id] if state.last_ending else [])
