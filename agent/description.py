"""Everything that `understudy agent status` and the metrics show of a running daemon, gathered when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from agent.adapters.disk_trouble import DiskTrouble
from agent.adapters.judgements import facts
from agent.adapters.probes import Probes
from agent.adapters.pulse import Pulse
from agent.adapters.trainer_process import TrainerProcess
from agent.announcer import Announcer
from agent.core.facts import Reading
from agent.core.state import Link as LinkState
from agent.core.state import Phase, State
from agent.job import Progress
from agent.network import Network
from agent.serving import Serving
from agent.storage import Storage


@dataclass(frozen=True)
class Description:
    """Calling it gives plain values. From any thread. `now`: the core's state, the machine's last reading, and how far
    the trainer is."""

    announcer: Announcer
    storage: Storage
    serving: Serving
    network: Network
    pulse: Pulse
    disk: DiskTrouble
    trainer: TrainerProcess
    probes: Probes
    now: Callable[[], tuple[State, Reading, Progress | None]]

    def __call__(self) -> dict[str, Any]:
        state, reading, progress = self.now()
        link = self.network.link
        status: dict[str, Any] = msgspec.to_builtins(self.announcer.status(online=True))
        status.pop("type", None)
        status["link"] = (link.protocol or "down") if link else "none configured"
        status["link_reason"] = link.why_down if link else ""
        status["connected"] = state.link is LinkState.UP
        status["waiting_triggers"] = [list(wish.categories) for wish in state.waiting]
        status["failures"] = state.failures
        status["samples"] = self.storage.samples.count()
        status["outbox_messages"], status["outbox_bytes"] = self.storage.outbox.size()
        status["outbox_dropped"] = msgspec.to_builtins(self.storage.outbox.dropped)
        status["live_dropped"] = link.live_dropped if link else 0
        status["teacher_bytes"] = self.network.teacher.received_bytes
        status["reading"] = msgspec.to_builtins(reading)
        status["egress"] = self.network.gate.ledger.snapshot()
        status["errors"] = self.serving.inference.counters().errors
        status["serving"] = self.pulse.serving()
        status["model"] = self._model()
        status["live"] = msgspec.to_builtins(self.serving.recorder.view())
        noticed = state.noticed
        current = noticed is not None and noticed.generation == state.models.active
        status["noticed"] = msgspec.to_builtins(noticed) if current else None
        status["probes_missed"], status["probes"] = self.probes.counts()
        status["last_round"] = msgspec.to_builtins(state.last_ending.report) if state.last_ending else None
        status["rounds_begun"] = state.rounds_begun
        status["rolling_back_to"] = state.owed_rollback_to
        status["disk_refused"] = self.disk.refused()
        status["sparing"] = state.sparing
        status["not_written"] = self.serving.thrift.left_out
        status["trainer_uncontained"] = self.trainer.uncontained
        if progress is not None and state.phase is Phase.TRAINING:
            status["progress"] = msgspec.to_builtins(progress)
        return status

    def _model(self) -> dict[str, Any]:
        serving = self.serving.inference.current
        return facts(serving.manifest, serving.digest, self.storage.judgements.of(serving.digest))
