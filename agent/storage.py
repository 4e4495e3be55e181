"""All that the state folder holds but the models and the state: opened, reported on and closed together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.adapters.disk_trouble import Trouble
from agent.adapters.intake import Quarantine
from agent.adapters.job_folder import JobFolders
from agent.adapters.judgements import Judgements
from agent.adapters.ledger_file import LedgerFile
from agent.adapters.outbox import Outbox
from agent.adapters.prediction_log import PredictionLog
from agent.adapters.sample_store import SampleStore
from agent.adapters.seen import SeenFiles
from agent.config import Config
from agent.home import Home

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Storage:
    """What could not be read was put aside for something new, and `report` says so: it keeps nobody from serving."""

    def __init__(self, home: Home, config: Config) -> None:
        self.samples = SampleStore(home.samples, max_bytes=int(config.novelty.buffer_mib * 2**20))
        self.outbox = Outbox(
            home.outbox, max_bytes=int(config.mqtt.outbox_mib * 2**20), max_age_s=config.mqtt.outbox_max_age_s
        )
        self.seen = SeenFiles(home.seen)
        self.predictions = PredictionLog(home.predictions, max_bytes=int(config.log.predictions_mib * 2**20))
        self.jobs = JobFolders(home.jobs)
        self.judgements = Judgements(home.judgements)
        self.ledger_file = LedgerFile(home.ledger)
        self.quarantine = Quarantine(home.quarantine)

    def report(self, log: FilteringBoundLogger) -> None:
        """What of it was damaged."""
        for name, adapter in (("samples", self.samples), ("outbox", self.outbox), ("seen", self.seen)):
            if adapter.quarantined:
                log.error("database_quarantined", which=name, moved_to=str(adapter.quarantined))
        if self.ledger_file.unreadable:
            log.warning("egress_ledger_unreadable", error=self.ledger_file.unreadable)

    def troubles(self) -> dict[str, Callable[[], Trouble]]:
        """What the disk has refused, by what was to be written."""
        return {
            "samples": lambda: self.samples.trouble,
            "outbox": lambda: self.outbox.trouble,
            "seen": lambda: self.seen.trouble,
            "predictions": lambda: self.predictions.trouble,
        }

    def close(self) -> None:
        """After the last message has left: the outbox closes last."""
        self.seen.close()
        self.samples.close()
        with contextlib.suppress(OSError):
            self.ledger_file.save()
        self.outbox.close()
