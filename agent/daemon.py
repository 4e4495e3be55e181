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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agent.adapters.control import Control
from agent.adapters.disk_trouble import DiskTrouble
from agent.adapters.egress import EgressGate
from agent.adapters.inbox import Inbox
from agent.adapters.inference import Inference, Verdict
from agent.adapters.intake import Frame, IntakeError, Quarantine
from agent.adapters.job_folder import JobFolders
from agent.adapters.journal import open_journal
from agent.adapters.judgements import Judgements
from agent.adapters.ledger_file import LedgerFile
from agent.adapters.memory import one_heap, settle
from agent.adapters.model_store import ModelStore
from agent.adapters.outbox import Outbox
from agent.adapters.prediction_log import PredictionLog
from agent.adapters.probes import Probes
from agent.adapters.pulse import Pulse, silence_s
from agent.adapters.recorder import Recorder
from agent.adapters.resources import Machine, Resources
from agent.adapters.sample_store import SampleStore
from agent.adapters.seen import SeenFiles
from agent.adapters.start_record import StartRecord
from agent.adapters.state_file import StateFile
from agent.adapters.teacher_client import TeacherClient
from agent.adapters.thrift import Thrift
from agent.adapters.trainer_process import Exit, TrainerProcess
from agent.adapters.wear import Wear
from agent.announcer import Announcer
from agent.assembly import make_link, make_source, open_metrics
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
from agent.post import Post
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
        self._config = config
        self._events: queue.SimpleQueue[ev.Event] = queue.SimpleQueue()
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
        self._store = SampleStore(self._home.samples, max_bytes=int(config.novelty.buffer_mib * 2**20))
        self._outbox = Outbox(
            self._home.outbox, max_bytes=int(config.mqtt.outbox_mib * 2**20), max_age_s=config.mqtt.outbox_max_age_s
        )
        self._seen = SeenFiles(self._home.seen)
        first = loading.result()
        classifier, active = first.classifier, first.classifier.generation
        previous = self._models.previous()
        self._state_file = StateFile(self._home.state)
        self._state = self._state_file.load() or State(models=Models(active=active))
        self._first = ev.Started(
            self._now(), active, previous[0] if previous else None, classifier.manifest.labels, first.given_up
        )
        self._jobs = JobFolders(self._home.jobs)
        self._jobs.remove_all_but(*_jobs_of(self._state))
        self._lane.submit(self._models.collect_garbage, candidates=[self._state.models.candidate or active])

        self._inference = Inference(classifier, self._on_verdict, self._on_frame_error)
        topics = wire.Topics(config.device.prefix, config.device.fleet, config.device.name)
        self._announcer = Announcer(
            config,
            topics,
            self._session,
            signing.public_key_hex(key),
            self._log,
            lambda: (self._state, self._inference.counters()),
        )
        self._predictions = PredictionLog(self._home.predictions, max_bytes=int(config.log.predictions_mib * 2**20))
        self._thrift = Thrift(lambda: self._state.sparing)
        self._recorder = Recorder(
            self._predictions,
            self._store,
            publish=self._announcer.prediction,
            stored=lambda: self.put(ev.NovelSampleStored(self._now(), self._workshop.count_new())),
            live=self._on_live,
            failed=lambda error: self._log.error("not_recorded", error=f"{type(error).__name__}: {error}"),
            thrift=self._thrift,
        )
        self._seen.follow(
            lambda: self._inference.submitted, lambda: self._recorder.done + self._inference.counters().errors
        )
        self._ledger_file = LedgerFile(self._home.ledger)
        self._gate = EgressGate(
            config.privacy.mode,
            config.privacy.consent_to_upload,
            config.privacy.share_predictions,
            self._ledger_file.ledger,
        )
        self._teacher = TeacherClient(
            self._jobs,
            topics,
            self._announcer.request,
            lambda key: self._link.acknowledged(key) if self._link else None,
            teachers=self._home.teachers,
            trusted=config.model.trusted_keys,
            answered=lambda job_id: self.put(ev.TeacherAnswered(self._now(), job_id)),
            refused=lambda job_id, why: self.put(ev.TeacherRefused(self._now(), job_id, why)),
            now_utc=time.time,
            limit_bytes=lambda: self._link.limit_bytes if self._link else config.mqtt.max_message_bytes,
        )
        inbox = Inbox(topics, config.mqtt.operator_keys, now=self._now, now_utc=time.time)
        post = Post(topics, inbox, self._teacher, self._announcer, self._log, self.put, self._now)
        self._link = make_link(config, topics, self._gate, self._outbox, self._announcer, post.take)
        self._announcer.link = self._link
        self._judgements = Judgements(self._home.judgements)
        self._trainer = TrainerProcess(self._on_progress, self._on_exit)
        self._workshop = Workshop(
            config,
            self._models,
            self._store,
            self._jobs,
            self._teacher,
            self._inference,
            self._judgements,
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
            self._judgements,
            self._models.load,
            self._inference,
            lambda *missed: self.put(ev.Probed(self._now(), *missed)),
            self._execution.busy,
            time.time,
        )
        self._books = Bookkeeping(self._state_file, self._state, self._execution.carry_out)
        self._disk = DiskTrouble(
            {
                "state": lambda: self._books.trouble,
                "samples": lambda: self._store.trouble,
                "outbox": lambda: self._outbox.trouble,
                "seen": lambda: self._seen.trouble,
                "predictions": lambda: self._predictions.trouble,
            },
            self._log,
        )
        self._orders = LocalOrders(
            {"rollback": ev.RollbackOrdered, "cancel": ev.CancelOrdered, "resume": ev.ResumeOrdered},
            self._session,
            self.put,
            self._now,
        )
        self._resources = Resources(self._machine, config.budget.sample_s, self._on_reading)
        self._quarantine = Quarantine(self._home.quarantine)
        self._source = make_source(
            config,
            classifier.manifest.input,
            self._inference,
            self._seen,
            reject=self._on_reject,
            report=lambda text: self._log.warning("source", what=text),
        )
        silent_s = silence_s(self._notifier)
        self._pulse = Pulse(
            self._notifier,
            {
                "source": self._source.alive,
                "inference": lambda: self._now() - self._inference.last_alive_at < silent_s,
                "recorder": self._recorder.alive,
            },
            self._log,
        )
        self._describe = Description(
            self._announcer,
            self._store,
            self._outbox,
            self._teacher,
            self._gate,
            self._inference,
            self._pulse,
            self._link,
            self._disk,
            self._thrift,
            self._trainer,
            self._recorder,
            self._judgements,
            self._probes,
            lambda: (self._state, self._reading, self._progress),
        )
        for name in self._home.damaged:
            self._log.error("file_not_usable", which=name)
        for name, adapter in (("samples", self._store), ("outbox", self._outbox), ("seen", self._seen)):
            if adapter.quarantined:
                self._log.error("database_quarantined", which=name, moved_to=str(adapter.quarantined))
        if self._ledger_file.unreadable:
            self._log.warning("egress_ledger_unreadable", error=self._ledger_file.unreadable)
        for path in self._state_file.quarantined:
            self._log.error("state_quarantined", moved_to=str(path))

    # ------------------------------------------------------------------------------------------------ start and end

    def run(self) -> None:
        """Serve until told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._inference.start()
        self._recorder.start()
        if self._link:
            self._link.start()
        control = self._open_control()
        metrics = open_metrics(self._config.log, self._describe, self._log)
        self._handle(self._first)
        self._source.start()
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
            event = self._events.get(timeout=max(0.0, self._next_tick_at - self._now()))
            if event is not _WAKE:
                self._handle(event)
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
                self._ledger_file.save_unless_idle()

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
        self._source.close()
        self._inference.close()
        self._recorder.close()
        self._handle(ev.StopOrdered(self._now()))
        self._trainer.close()
        self._lane.shutdown(wait=True)
        while True:
            with contextlib.suppress(queue.Empty):
                self._handle(self._events.get_nowait())
                continue
            break
        if self._link:
            self._link.close(self._announcer.status(online=False))
        self._resources.close()
        if control:
            control.close()
        self._seen.close()
        self._store.close()
        with contextlib.suppress(OSError):
            self._ledger_file.save()
        self._outbox.close()
        self._log.info("stopped", frames=self._inference.counters().frames)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stopping = True
        self._events.put(_WAKE)

    def put(self, event: ev.Event) -> None:
        """From any thread."""
        self._events.put(event)

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

    def _handle(self, event: ev.Event) -> None:
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
        self._books.follow(self._state, commands)
        self._orders.taken(event, self._books.trouble[1])
        if commands or self._state.phase is not before.phase:
            self._announcer.status_if_changed()

    # ------------------------------------------------------------------------------------------------ what adapters say

    def _on_verdict(self, frame: Frame, verdict: Verdict) -> None:
        self._recorder.take(frame, verdict)

    def _on_frame_error(self, frame: Frame, error: Exception) -> None:
        self._log.error("frame_not_classified", origin=frame.origin, error=f"{type(error).__name__}: {error}")

    def _on_reject(self, path: Path, error: IntakeError) -> None:
        kept = not self._thrift.skips("quarantined") and self._quarantine.add(path, error)
        self._log.warning("file_refused", code=error.code, error=str(error), quarantined=kept)

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
