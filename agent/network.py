"""What the daemon exchanges with others: the link, the gate before it, and who takes what comes over it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters.egress import EgressGate
from agent.adapters.inbox import Inbox
from agent.adapters.receipts import Receipt
from agent.adapters.teacher_client import TeacherClient
from agent.announcer import Announcer
from agent.assembly import make_link
from agent.config import Config
from agent.core import events as ev
from agent.post import Post, Put
from agent.storage import Storage
from transfer import wire

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Network:
    """`link` is None where no broker is configured: then nothing leaves the device, and nobody is asked."""

    def __init__(
        self,
        config: Config,
        topics: wire.Topics,
        storage: Storage,
        teachers: Path,
        announcer: Announcer,
        log: FilteringBoundLogger,
        put: Put,
        now: Callable[[], float],
    ) -> None:
        """`teachers`: where teachers that were fetched lie."""
        self.gate = EgressGate(
            config.privacy.mode,
            config.privacy.consent_to_upload,
            config.privacy.share_predictions,
            storage.ledger_file.ledger,
        )
        self.teacher = TeacherClient(
            storage.jobs,
            topics,
            announcer.request,
            self._acknowledged,
            teachers=teachers,
            trusted=config.model.trusted_keys,
            answered=lambda job_id: put(ev.TeacherAnswered(now(), job_id)),
            refused=lambda job_id, why: put(ev.TeacherRefused(now(), job_id, why)),
            now_utc=time.time,
            limit_bytes=lambda: self.link.limit_bytes if self.link else config.mqtt.max_message_bytes,
        )
        inbox = Inbox(topics, config.mqtt.operator_keys, now=now, now_utc=time.time)
        post = Post(topics, inbox, self.teacher, announcer, log, put, self._settle, now)
        self.link = make_link(config, topics, self.gate, storage.outbox, announcer, post.take)
        announcer.link = self.link

    def start(self) -> None:
        if self.link:
            self.link.start()

    def close(self, final: wire.Status) -> None:
        """`final` is the last that is said."""
        if self.link:
            self.link.close(final)

    def _acknowledged(self, key: str) -> None:
        if self.link:
            self.link.acknowledged(key)

    def _settle(self, receipt: Receipt) -> None:
        if self.link:
            self.link.settle(receipt)
