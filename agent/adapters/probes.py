"""Golden probes: held-out images that what serves must go on naming as it did when it was judged.

A damaged page of the model in memory, a library that was exchanged: no count of live frames shows such things for sure,
for nobody knows what those show. Nothing is loaded for it: the very interpreter that serves is asked, between frames.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agent.adapters.inference import Classifier, Inference, InferenceError
from agent.adapters.judgements import Images, Judgement, Judgements, golden
from transfer.bundle import Bundle

AT_ONCE = 8
"""Images a look takes of a settled model: all of them take turns, and an idle device stays idle."""


class Probes:
    """`look` is called by one thread, now and then. `say(generation, misses, count)` is called where the number of
    misses is another than before; `interrupted` says that something waits that matters more."""

    def __init__(
        self,
        judgements: Judgements,
        load: Callable[[int], Bundle],
        inference: Inference,
        say: Callable[[int, int, int], None],
        interrupted: Callable[[], bool],
        now_utc: Callable[[], float],
    ) -> None:
        self._judgements, self._load, self._inference = judgements, load, inference
        self._say, self._interrupted, self._now_utc = say, interrupted, now_utc
        self._of: Classifier | None = None
        self._images: Images = np.zeros((0, 1, 1, 3), np.uint8)
        self._expected: list[str] = []
        self._missed: list[bool] = []
        self._next = self._said = 0

    def counts(self) -> tuple[int, int]:
        """Golden images that get another label than when the model was judged, and how many there are. From any
        thread."""
        return sum(self._missed), len(self._missed)

    def look(self, everything: bool = False) -> None:
        """Ask about the next few images, or all of them. Raises BundleError, OSError where the generation or the file
        of judgements cannot be read or written; the next look tries again."""
        if self._inference.current is not self._of:
            self._begin(self._inference.current)
        for _ in range(len(self._images) if everything else min(AT_ONCE, len(self._images))):
            if self._interrupted():
                break
            if not self._ask(self._next):
                return  # swapped meanwhile
            self._next = (self._next + 1) % len(self._images)
        misses = sum(self._missed)
        if self._of is not None and misses != self._said:
            self._said = misses
            self._say(self._of.generation, misses, len(self._missed))

    def _ask(self, row: int) -> bool:
        assert self._of is not None
        try:
            verdict = self._inference.ask(self._images[row])
        except InferenceError:
            self._missed[row] = True
            return True
        if verdict.generation == self._of.generation:
            self._missed[row] = verdict.label != self._expected[row]
        return verdict.generation == self._of.generation

    def _begin(self, classifier: Classifier) -> None:
        """Take up the images of another generation, and what it said of them when it was judged; a bundle that nobody
        judged here is taken at its first word."""
        images, truth = golden(self._load(classifier.generation))
        judgement = self._judgements.of(classifier.digest)
        if judgement is None or len(judgement.answers) != len(images):
            answers = tuple(self._inference.ask(image).label for image in images)
            if self._inference.current is not classifier:
                return
            right = sum(answer == true for answer, true in zip(answers, truth, strict=True))
            judgement = Judgement(
                generation=classifier.generation, at_utc=self._now_utc(), answers=answers, right=right
            )
            self._judgements.add(classifier.digest, judgement)
        self._of, self._images, self._expected = classifier, images, list(judgement.answers)
        self._missed, self._next, self._said = [False] * len(images), 0, 0
