"""The way of the images: source -> inference -> recorder, each with its thread. Nothing of it waits for the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters.group_watch import GroupWatch
from agent.adapters.inference import Classifier, Inference, Verdict
from agent.adapters.intake import Frame, IntakeError
from agent.adapters.recorder import Recorder
from agent.adapters.thrift import Thrift
from agent.assembly import make_source
from agent.config import Config
from agent.core.facts import GroupView, LiveView
from agent.storage import Storage

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Serving:
    def __init__(
        self,
        config: Config,
        classifier: Classifier,
        storage: Storage,
        log: FilteringBoundLogger,
        *,
        publish: Callable[[Frame, Verdict, float], None],
        stored: Callable[[], None],
        live: Callable[[LiveView], None],
        group: Callable[[GroupView], None],
        sparing: Callable[[], str],
    ) -> None:
        """`publish`, `stored`, `live`: see Recorder; `group`: see GroupWatch; `sparing`: see Thrift.
        Quarantined files lie in `storage`."""
        self._log, self._quarantine = log, storage.quarantine
        self.thrift = Thrift(sparing)
        self.inference = Inference(classifier, self._on_verdict, self._on_frame_error)
        watch = GroupWatch(config.novelty.group_images, lambda: self.inference.current, group)
        self.recorder = Recorder(
            storage.predictions,
            storage.samples,
            publish=publish,
            stored=stored,
            live=live,
            failed=lambda error: log.error("not_recorded", error=f"{type(error).__name__}: {error}"),
            seen=watch.take,
            thrift=self.thrift,
        )
        storage.seen.follow(
            lambda: self.inference.submitted, lambda: self.recorder.done + self.inference.counters().errors
        )
        self._source = make_source(
            config,
            classifier.manifest.input,
            self.inference,
            storage.seen,
            reject=self._on_reject,
            report=lambda text: log.warning("source", what=text),
        )

    def start(self) -> None:
        """Ready for images, but none is fetched yet."""
        self.inference.start()
        self.recorder.start()

    def fetch(self) -> None:
        """Images may come."""
        self._source.start()

    def close(self) -> None:
        """No new image; what was taken in is served and recorded."""
        self._source.close()
        self.inference.close()
        self.recorder.close()

    def signs_of_life(self, silent_s: float) -> dict[str, Callable[[], bool]]:
        """Whether each of the three goes on; inference is given up for dead after `silent_s` without a turn."""
        return {
            "source": self._source.alive,
            "inference": lambda: time.monotonic() - self.inference.last_alive_at < silent_s,
            "recorder": self.recorder.alive,
        }

    def _on_verdict(self, frame: Frame, verdict: Verdict) -> None:
        self.recorder.take(frame, verdict)

    def _on_frame_error(self, frame: Frame, error: Exception) -> None:
        self._log.error("frame_not_classified", origin=frame.origin, error=f"{type(error).__name__}: {error}")

    def _on_reject(self, path: Path, error: IntakeError) -> None:
        kept = not self.thrift.skips("quarantined") and self._quarantine.add(path, error)
        self._log.warning("file_refused", code=error.code, error=str(error), quarantined=kept)
