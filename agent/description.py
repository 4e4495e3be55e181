"""Everything that `understudy agent status` and the metrics show of a running daemon, gathered when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from agent.adapters.disk_trouble import DiskTrouble
from agent.adapters.egress import EgressGate
from agent.adapters.inference import Inference
from agent.adapters.judgements import Judgements, facts
from agent.adapters.mqtt import Link
from agent.adapters.outbox import Outbox
from agent.adapters.probes import Probes
from agent.adapters.pulse import Pulse
from agent.adapters.recorder import Recorder
from agent.adapters.sample_store import SampleStore
from agent.adapters.teacher_client import TeacherClient
from agent.adapters.thrift import Thrift
from agent.adapters.trainer_process import TrainerProcess
from agent.announcer import Announcer
from agent.core.facts import Reading
from agent.core.state import Link as LinkState
from agent.core.state import Phase, State
from agent.job import Progress


@dataclass(frozen=True)
class Description:
    """Calling it gives plain values. From any thread. `now`: the core's state, the machine's last reading, and how far
    the trainer is."""

    announcer: Announcer
    store: SampleStore
    outbox: Outbox
    teacher: TeacherClient
    gate: EgressGate
    inference: Inference
    pulse: Pulse
    link: Link | None
    disk: DiskTrouble
    thrift: Thrift
    trainer: TrainerProcess
    recorder: Recorder
    judgements: Judgements
    probes: Probes
    now: Callable[[], tuple[State, Reading, Progress | None]]

    def __call__(self) -> dict[str, Any]:
        state, reading, progress = self.now()
        status: dict[str, Any] = msgspec.to_builtins(self.announcer.status(online=True))
        status.pop("type", None)
        status["link"] = (self.link.protocol or "down") if self.link else "none configured"
        status["link_reason"] = self.link.why_down if self.link else ""
        status["connected"] = state.link is LinkState.UP
        status["waiting_triggers"] = [list(wish.categories) for wish in state.waiting]
        status["failures"] = state.failures
        status["samples"] = self.store.count()
        status["outbox_messages"], status["outbox_bytes"] = self.outbox.size()
        status["outbox_dropped"] = msgspec.to_builtins(self.outbox.dropped)
        status["live_dropped"] = self.link.live_dropped if self.link else 0
        status["teacher_bytes"] = self.teacher.received_bytes
        status["reading"] = msgspec.to_builtins(reading)
        status["egress"] = self.gate.ledger.snapshot()
        status["errors"] = self.inference.counters().errors
        status["serving"] = self.pulse.serving()
        status["model"] = self._model()
        status["live"] = msgspec.to_builtins(self.recorder.view())
        status["probes_missed"], status["probes"] = self.probes.counts()
        status["last_round"] = msgspec.to_builtins(state.last_ending.report) if state.last_ending else None
        status["rounds_begun"] = state.rounds_begun
        status["rolling_back_to"] = state.owed_rollback_to
        status["disk_refused"] = self.disk.refused()
        status["sparing"] = state.sparing
        status["not_written"] = self.thrift.left_out
        status["trainer_uncontained"] = self.trainer.uncontained
        if progress is not None and state.phase is Phase.TRAINING:
            status["progress"] = msgspec.to_builtins(progress)
        return status

    def _model(self) -> dict[str, Any]:
        serving = self.inference.current
        return facts(serving.manifest, serving.digest, self.judgements.of(serving.digest))
