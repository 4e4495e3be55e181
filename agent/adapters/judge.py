"""Measures a candidate with the very interpreter that would serve it, on images that trained nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.adapters.inference import Classifier
from agent.core.facts import Scores
from transfer.bundle import Bundle

BATCH = 64


def judge(
    active: Bundle,
    candidate: Bundle,
    category: str,
    new_images: npt.NDArray[np.uint8],
) -> Scores:
    """Accuracy of both on the bundle's held-out old images and on `new_images` uint8 [n, h, w, 3] of `category`.

    Raises InferenceError or BundleError where either cannot be loaded.
    """
    holdout = active.holdout()
    before, after = Classifier(active, 0), Classifier(candidate, 0)
    old_before = old_after = None
    old_count = 0
    if holdout is not None and len(holdout[0]):
        images, targets = holdout
        truth = [active.manifest.labels[int(t)] for t in targets]
        old_before, old_after, old_count = _accuracy(before, images, truth), _accuracy(after, images, truth), len(truth)
    if not len(new_images):
        return Scores(old_before, old_after, None, None, old_count, 0)
    truth = [category] * len(new_images)
    return Scores(
        old_before,
        old_after,
        _accuracy(before, new_images, truth),
        _accuracy(after, new_images, truth),
        old_count,
        len(truth),
    )


def _accuracy(classifier: Classifier, images: npt.NDArray[np.uint8], truth: list[str]) -> float:
    said = [
        verdict.label
        for start in range(0, len(images), BATCH)
        for verdict in classifier.classify(images[start : start + BATCH])
    ]
    return sum(a == b for a, b in zip(said, truth, strict=True)) / len(truth)
