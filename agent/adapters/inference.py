"""LiteRT inference and the hot swap.

One thread serves. A swap replaces one reference between two frames: the new classifier is built and warmed up on
another thread beforehand, so no frame waits for a model to load and none is dropped.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.adapters.intake import Frame
from transfer import preprocess
from transfer.bundle import Bundle
from transfer.head import HeadError, decide
from transfer.interpreter import Interpreter, InterpreterError
from transfer.manifest import Manifest

WAITING_FRAMES = 8
ANSWER_WITHIN_S = 30.0
LARGEST = np.finfo(np.float32).max
"""TFLite's own kernels, which run where XNNPACK does not, make this of infinity."""
LULL_S = 0.05
"""Within so much a stream of 20 images a second has a lull; nobody waits longer for one."""
SWITCH_S = 0.001
"""Python's own is 0.005, and a frame passes through three threads."""


class InferenceError(RuntimeError):
    """A model cannot be loaded or run; the text says which and why."""


def serve_promptly() -> None:
    """Have a thread that computes in Python give way this soon to one that waits, such as the one that serves."""
    sys.setswitchinterval(SWITCH_S)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model of `generation` says about one frame. `feature` is float32 [d].

    `novel`: rarer than the false alarm rate among known images. `kept`: novel enough to be buffered; single scores are
    weak where categories are close, so more is kept than is flagged, and a round judges the samples as a group.
    """

    generation: int
    label: str
    confidence: float
    novelty: float
    novel: bool
    kept: bool
    feature: npt.NDArray[np.float32]


class Classifier:
    """One generation, loaded. Used by one thread at a time."""

    def __init__(
        self,
        bundle: Bundle,
        generation: int,
        *,
        threads: int = 1,
        false_alarm_rate: float = 0.02,
        buffer_share: float = 0.05,
        pause: Callable[[], object] = lambda: None,
    ) -> None:
        """Raises InferenceError or transfer.bundle.BundleError; a constructed classifier has run once.

        `pause` is called before each step that keeps all Python threads waiting, as Interpreter's.
        """
        self.generation = generation
        self.digest = bundle.digest
        self.manifest: Manifest = bundle.manifest
        pause()
        self.statistics = bundle.statistics()
        try:
            self._flagged_above = self.statistics.threshold(false_alarm_rate)
            self._kept_above = self.statistics.threshold(max(buffer_share, false_alarm_rate))
            self._interpreter = Interpreter(bundle.tflite_path, threads, pause)
        except (HeadError, InterpreterError) as error:
            raise InferenceError(f"generation {generation}: {error}") from None
        size = self.manifest.input
        self.classify(np.zeros((1, size.height, size.width, 3), np.uint8))

    def classify(self, images: npt.NDArray[np.uint8]) -> list[Verdict]:
        """One verdict per image of uint8 [n, h, w, 3]."""
        labels = self.manifest.labels
        try:
            logits, features = self._interpreter.run(preprocess.normalise(images, self.manifest.input))
            self._check_widths(logits.shape[1], features.shape[1])
            distances = self.statistics.distances(features)
            novelties = self.statistics.novelty(features, distances)
        except (InterpreterError, HeadError) as error:
            raise InferenceError(f"generation {self.generation}: {error}") from None
        if not (np.abs(logits) < LARGEST).all():  # the class statistics have looked at the features
            raise InferenceError(f"generation {self.generation}: the model's output is not finite")
        if not np.isfinite(novelties).all():
            raise InferenceError(f"generation {self.generation}: the model's features are too large to be judged")
        probabilities = decide(self.manifest.decision, self.statistics, logits, features, distances)
        best = probabilities.argmax(axis=1)
        return [
            Verdict(
                generation=self.generation,
                label=labels[int(k)],
                confidence=float(min(1.0, probabilities[i, k])),
                novelty=float(novelties[i]),
                novel=bool(novelties[i] > self._flagged_above),
                kept=bool(novelties[i] > self._kept_above),
                feature=features[i].copy(),
            )
            for i, k in enumerate(best)
        ]

    def _check_widths(self, logits: int, features: int) -> None:
        net = self.manifest.net
        if (logits, features) != (net.classes, net.feature_width):
            raise InterpreterError(
                f"the model gives {logits} logits of {features} features; its manifest says {net.classes} of "
                f"{net.feature_width}"
            )


@dataclass(frozen=True, slots=True)
class Served:
    """Counters since the start, and the longest a frame waited for its verdict since `watch_waits`."""

    frames: int
    dropped: int
    novel: int
    errors: int
    longest_wait_s: float


@dataclass(frozen=True, slots=True)
class _Question:
    image: npt.NDArray[np.uint8]
    answer: Future[Verdict] = field(default_factory=Future)


class Inference:
    """The serving thread: frames in, verdicts out, in order."""

    def __init__(
        self,
        classifier: Classifier,
        on_verdict: Callable[[Frame, Verdict], None],
        on_error: Callable[[Frame, Exception], None],
    ) -> None:
        self._classifier = classifier
        self._on_verdict = on_verdict
        self._on_error = on_error
        self._frames: queue.Queue[tuple[float, Frame] | _Question | None] = queue.Queue(WAITING_FRAMES)
        self._served = self._dropped = self._novel = self._errors = 0
        self.submitted = 0
        self._longest_wait_s = 0.0
        self._lull = threading.Event()
        self.last_alive_at = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name="inference", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, frame: Frame) -> None:
        """Hand over a frame, waiting while the queue is full: for sources that can wait, such as a folder."""
        self.submitted += 1
        self._frames.put((time.monotonic(), frame))

    def offer(self, frame: Frame) -> bool:
        """Hand over a frame unless the queue is full: for sources that cannot wait. A refused frame is counted."""
        try:
            self._frames.put_nowait((time.monotonic(), frame))
        except queue.Full:
            self._dropped += 1
            return False
        return True

    def ask(self, image: npt.NDArray[np.uint8]) -> Verdict:
        """What the model that serves says about uint8 [h, w, 3], in turn with the frames; counted and told nowhere.
        Raises InferenceError."""
        question = _Question(image)
        try:
            self._frames.put(question, timeout=ANSWER_WITHIN_S)
            return question.answer.result(ANSWER_WITHIN_S)
        except Exception as error:  # whatever the model did, and nobody there to answer
            raise InferenceError(f"no answer: {type(error).__name__}: {error}") from error

    @property
    def thread_id(self) -> int | None:
        """The serving thread's native id; None until it was started."""
        return self._thread.native_id

    @property
    def current(self) -> Classifier:
        return self._classifier

    def swap(self, classifier: Classifier) -> None:
        """Serve the next frame with `classifier`. The assignment is atomic; the frame under way ends with the old."""
        self._classifier = classifier

    def await_lull(self, timeout_s: float = LULL_S) -> None:
        """Return just after a frame was served and none waits: the best moment to keep the serving thread from its
        work. It may not come; then return all the same."""
        self._lull.clear()
        self._lull.wait(timeout_s)

    def watch_waits(self) -> None:
        self._longest_wait_s = 0.0

    def counters(self) -> Served:
        return Served(self._served, self._dropped, self._novel, self._errors, self._longest_wait_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Serve what waits, then end."""
        self._frames.put(None)
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        while True:
            self.last_alive_at = time.monotonic()
            try:
                item = self._frames.get(timeout=1.0)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, _Question):
                self._answer(item)
                continue
            offered_at, frame = item
            try:
                verdict = self._classifier.classify(frame.image[None])[0]
            except Exception as error:
                # Whatever one frame does, the next one is served.
                self._errors += 1
                self._on_error(frame, error)
                continue
            self._served += 1
            self._novel += verdict.novel
            self._longest_wait_s = max(self._longest_wait_s, time.monotonic() - offered_at)
            self._on_verdict(frame, verdict)
            if self._frames.empty():
                self._lull.set()

    def _answer(self, question: _Question) -> None:
        try:
            question.answer.set_result(self._classifier.classify(question.image[None])[0])
        except Exception as error:
            question.answer.set_exception(error)
        if self._frames.empty():
            self._lull.set()
