"""What the daemon tells the outside: status, jobs, events and predictions, as messages of the wire."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.adapters.egress import EgressDenied
from agent.adapters.inference import Served, Verdict
from agent.adapters.intake import Frame
from agent.adapters.mqtt import Link
from agent.config import Config
from agent.core import commands as do
from agent.core.state import State
from transfer import wire

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

Detail = dict[str, Any]

TROUBLE = frozenset(
    {
        "garbage_not_collected",
        "job_not_closed",
        "message_refused",
        "model_given_up",
        "probes_missed",
        "rollback_failed",
        "rollback_refused",
        "training_interrupted",
        "writes_suspended",
    }
)
"""Events that are warnings in the log. See docs/log-events.md."""


class Announcer:
    """Everything it publishes passes the link's egress gate. Without a link it only writes the log. From any thread."""

    def __init__(
        self,
        config: Config,
        topics: wire.Topics,
        session: int,
        public_key: str,
        log: FilteringBoundLogger,
        facts: Callable[[], tuple[State, Served]],
    ) -> None:
        self._config, self._topics, self._session, self._public_key = config, topics, session, public_key
        self._log, self._facts = log, facts
        self._seq = itertools.count(1)
        self._published: tuple[object, ...] = ()
        self.link: Link | None = None

    def request(self, message: wire.AnyMessage, key: str) -> bool:
        """A question to the teacher: kept until `key` is acknowledged."""
        return self._publish(message, self._topics.teacher_request, durable_key=key)

    def prediction(self, frame: Frame, verdict: Verdict, at_utc: float) -> None:
        """Nothing unless the configuration shares predictions."""
        if not self._config.privacy.share_predictions:
            return
        message = wire.Prediction(
            device=self._config.device.name,
            sample_id=frame.sample_id,
            origin=frame.origin[:1000],
            at_utc=at_utc,
            label=verdict.label,
            confidence=verdict.confidence,
            novelty=verdict.novelty,
            novel=verdict.novel,
            generation=verdict.generation,
        )
        self._publish(message, self._topics.prediction)

    def job(self, report: do.ReportJob) -> None:
        """Durable, and the last to be given up: an operator waits for it."""
        self._log.info("job", state=report.state, categories=list(report.categories), detail=report.detail)
        scores = report.scores
        message = wire.JobUpdate(
            device=self._config.device.name,
            session=self._session,
            at_utc=time.time(),
            trigger_id=report.trigger_id,
            categories=report.categories,
            left_out=report.left_out,
            state=report.state,
            detail=report.detail[:1000],
            old_before=scores.old_before if scores else None,
            old_after=scores.old_after if scores else None,
            new_before=scores.new_before if scores else None,
            new_after=scores.new_after if scores else None,
            generation=report.generation,
        )
        key = f"job:{report.trigger_id}:{report.state}:{report.detail[:40]}"
        self._publish(message, self._topics.job, durable_key=key, until="puback", critical=True)

    def event(self, kind: str, detail: Detail) -> None:
        """Durable. In the log it is a line of that name."""
        say = self._log.warning if kind in TROUBLE else self._log.info
        say(kind, **detail)
        message = self._event(kind, detail)
        self._publish(message, self._topics.event, durable_key=f"event:{self._session}:{message.seq}", until="puback")

    def live_event(self, kind: str, detail: Detail) -> None:
        """Worth seeing now, worth nothing later."""
        self._publish(self._event(kind, detail), self._topics.event)

    def status_if_changed(self) -> None:
        status = self.status(online=True)
        shown = (status.phase, status.reason, status.generation, status.collected)
        if shown != self._published and self._publish(status, self._topics.status, retain=True):
            self._published = shown

    def status(self, *, online: bool) -> wire.Status:
        state, served = self._facts()
        return wire.Status(
            device=self._config.device.name,
            session=self._session,
            online=online,
            at_utc=time.time(),
            phase=state.phase.value,
            reason=state.reason[:1000],
            generation=state.models.active,
            previous=state.models.previous,
            labels=state.models.labels,
            categories=state.round.wish.categories if state.round else (),
            collected=state.novel_count,
            wanted=state.round.wish.samples_wanted if state.round else 0,
            frames=served.frames,
            dropped_frames=served.dropped,
            novel_frames=served.novel,
            privacy=self._config.privacy.mode,
            public_key=self._public_key,
        )

    def _event(self, kind: str, detail: Detail) -> wire.Event:
        return wire.Event(
            device=self._config.device.name,
            session=self._session,
            seq=next(self._seq),
            at_utc=time.time(),
            kind=kind,
            detail=detail,
        )

    def _publish(self, message: wire.AnyMessage, topic: str, **options: Any) -> bool:
        if self.link is None:
            return False
        try:
            return self.link.publish(message, topic, **options)
        except EgressDenied as error:
            self._log.warning("egress_denied", code=error.code, error=str(error))
            return False
