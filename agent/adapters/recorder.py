"""What becomes of each verdict: a line in the log, a message, and, where it may be new or was labelled, a durable
sample.

A thread of its own, so that a slow card never holds up the serving thread until the short queue between them is full.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from agent.adapters.inference import Verdict
from agent.adapters.intake import Frame
from agent.adapters.prediction_log import PredictionLog
from agent.adapters.sample_store import SampleStore
from agent.adapters.thrift import Thrift
from agent.core.facts import LiveView

WAITING_VERDICTS = 64
BATCH = 32


class Recorder:
    """`publish(frame, verdict)` may do nothing. `stored()` follows what has become durable in the sample store;
    `live(view)` says what the present generation has served so far; `seen(verdict)` is told every one. `thrift` may
    leave samples and lines unwritten."""

    def __init__(
        self,
        log: PredictionLog,
        samples: SampleStore,
        *,
        publish: Callable[[Frame, Verdict, float], None],
        stored: Callable[[], None],
        live: Callable[[LiveView], None],
        failed: Callable[[Exception], None],
        seen: Callable[[Verdict], None] = lambda verdict: None,
        now_utc: Callable[[], float] = time.time,
        thrift: Thrift | None = None,
    ) -> None:
        self._log, self._samples, self._thrift = log, samples, thrift or Thrift()
        self._publish, self._stored, self._live, self._failed = publish, stored, live, failed
        self._seen = seen
        self._now_utc = now_utc
        self._verdicts: queue.Queue[tuple[Frame, Verdict] | None] = queue.Queue(WAITING_VERDICTS)
        self._generation = 0
        self._frames = self._novel = 0
        self._confidence = 0.0
        self.done = 0
        """Verdicts recorded, or given up, so far."""
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def take(self, frame: Frame, verdict: Verdict) -> None:
        """Blocks while the queue is full: the card is the limit then, and the source has to wait."""
        self._verdicts.put((frame, verdict))

    def close(self, timeout_s: float = 5.0) -> None:
        """Record what waits, then end."""
        self._verdicts.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            batch = [self._verdicts.get()]
            while len(batch) < BATCH:
                try:
                    batch.append(self._verdicts.get_nowait())
                except queue.Empty:
                    break
            items = [item for item in batch if item is not None]
            try:
                self._record(items)
            except Exception as error:
                # Whatever is wrong with these, the next ones are recorded; a dead recorder would stop the serving.
                self._failed(error)
            self.done += len(items)
            if len(items) < len(batch):
                self._log.close()
                return

    def _record(self, items: list[tuple[Frame, Verdict]]) -> None:
        now_utc = self._now_utc()
        stored = 0
        for frame, verdict in items:
            # Somebody took the trouble to label it: known or new, it is worth learning from.
            if (verdict.kept or frame.given) and not self._thrift.skips("samples"):
                stored += self._samples.add(
                    frame.sample_id, frame.image, verdict.feature, verdict.novelty, verdict.label, now_utc, frame.given
                )
            self._publish(frame, verdict, now_utc)
            self._count(verdict)
            self._seen(verdict)
        # After the store: a line in the log that says "kept" has its sample on disk.
        if not self._thrift.skips("predictions", len(items)):
            self._log.append_batch(_line(frame, verdict, now_utc) for frame, verdict in items)
        if stored:
            self._stored()
        self._live(self.view())

    def view(self) -> LiveView:
        """What the present generation has served so far. From any thread: the numbers may be a frame apart."""
        return LiveView(self._frames, self._novel, self._confidence / max(1, self._frames), self._generation)

    def _count(self, verdict: Verdict) -> None:
        if verdict.generation != self._generation:
            self._generation, self._frames, self._novel, self._confidence = verdict.generation, 0, 0, 0.0
        self._frames += 1
        self._novel += verdict.novel
        self._confidence += verdict.confidence


def _line(frame: Frame, verdict: Verdict, now_utc: float) -> dict[str, object]:
    given = {"given": frame.given} if frame.given else {}
    return given | {
        "at_utc": round(now_utc, 3),
        "origin": frame.origin,
        "sample_id": frame.sample_id,
        "label": verdict.label,
        "confidence": round(verdict.confidence, 4),
        "novelty": round(verdict.novelty, 4),
        "novel": verdict.novel,
        "kept": verdict.kept,
        "generation": verdict.generation,
    }
