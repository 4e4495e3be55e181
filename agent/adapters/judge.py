"""Measures a candidate with the very interpreter that would serve it, on images that trained nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from agent.adapters.inference import Classifier
from agent.core.facts import Scores
from transfer.bundle import Bundle

BATCH = 64

Right = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


def judge(active: Bundle, candidate: Bundle, new_images: npt.NDArray[np.uint8], new_labels: Sequence[str]) -> Scores:
    """Accuracy of both on the active bundle's held-out images, among them those of categories learned earlier, and on
    `new_images` uint8 [n, h, w, 3] of `new_labels`.

    Raises InferenceError or BundleError where either cannot be loaded.
    """
    before, after = Classifier(active, 0), Classifier(candidate, 0)
    scores = Scores(None, None, None, None)
    holdout = active.holdout()
    if holdout is not None and len(holdout[0]):
        truth = [active.manifest.labels[int(t)] for t in holdout[1]]
        was, now = _right(before, holdout[0], truth), _right(after, holdout[0], truth)
        label, mine = _hardest_hit(truth, was, now)
        scores = replace(
            scores,
            old_before=_share(was),
            old_after=_share(now),
            old_count=len(truth),
            hardest_hit=label,
            hardest_before=_share(was[mine]),
            hardest_after=_share(now[mine]),
            hardest_count=len(mine),
        )
    if len(new_images):
        was, now = _right(before, new_images, new_labels), _right(after, new_images, new_labels)
        label, mine = _weakest(new_labels, now)
        scores = replace(
            scores,
            new_before=_share(was),
            new_after=_share(now),
            new_count=len(new_labels),
            weakest=label,
            weakest_after=_share(now[mine]),
            weakest_count=len(mine),
        )
    return scores


def examine(bundle: Bundle) -> None:
    """Read everything that serving does not, but the next round or judgement will: weights and held-out images that
    are not what the manifest says are found now, not then. Raises BundleError."""
    bundle.weights()
    bundle.holdout()


def _hardest_hit(truth: Sequence[str], was: Right, now: Right) -> tuple[str, Rows]:
    """The category that fell furthest, one image of it granted, as the gate looks at it; "" where none fell."""
    fallen = {
        label: (_share(was[rows]) - _share(now[rows]) - 1 / len(rows), rows)
        for label, rows in _rows_of(truth).items()
        if _share(now[rows]) < _share(was[rows])
    }
    if not fallen:
        return "", np.zeros(0, np.int64)
    label = max(fallen, key=lambda each: fallen[each][0])
    return label, fallen[label][1]


def _weakest(truth: Sequence[str], now: Right) -> tuple[str, Rows]:
    """The category that is known least, one image of it granted, as the gate looks at it."""
    return min(_rows_of(truth).items(), key=lambda each: _share(now[each[1]]) + 1 / len(each[1]))


def _rows_of(truth: Sequence[str]) -> dict[str, Rows]:
    return {label: np.flatnonzero(np.array(truth) == label) for label in sorted(set(truth))}


def _share(right: Right) -> float:
    return float(right.mean()) if len(right) else 0.0


def _right(classifier: Classifier, images: npt.NDArray[np.uint8], truth: Sequence[str]) -> Right:
    """[n]: which images were named as they should be."""
    said = [
        verdict.label
        for start in range(0, len(images), BATCH)
        for verdict in classifier.classify(images[start : start + BATCH])
    ]
    return np.array([a == b for a, b in zip(said, truth, strict=True)], bool)
