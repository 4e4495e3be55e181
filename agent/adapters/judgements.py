"""What was found out about the last generations when they were judged: one small file, for `status` and the probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from agent.adapters.inference import Classifier
from agent.core.facts import Scores
from transfer.bundle import Bundle
from transfer.durable import write_atomic
from transfer.manifest import Manifest

KEPT = 8
MAX_BYTES = 1024 * 1024
MOST, MOST_BYTES = 64, 2 * 1024 * 1024
"""Held-out images that are golden: enough that one of them is less than 2 %, and few enough to stay in memory."""

Images = npt.NDArray[np.uint8]


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`answers`: the labels that the golden images got, `right` of them theirs. `categories`: learned in the round that
    it comes from, none where it came as a bundle. `at_utc`: by the device's clock, right or not."""

    generation: int
    at_utc: float
    categories: tuple[str, ...] = ()
    scores: Scores | None = None
    answers: Annotated[tuple[str, ...], Meta(max_length=MOST)] = ()
    right: int = 0


class Judgements:
    """By the digest of the bundle, the newest KEPT. One thread writes; reading is for any."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)

    def of(self, digest: str) -> Judgement | None:
        return self._known.get(digest)

    def add(self, digest: str, judgement: Judgement) -> None:
        """Durable. Raises OSError; it is known all the same until the daemon ends."""
        known = {name: other for name, other in self._known.items() if name != digest} | {digest: judgement}
        self._known = dict(list(known.items())[-KEPT:])
        write_atomic(self._path, msgspec.json.encode(self._known))


def golden(bundle: Bundle) -> tuple[Images, list[str]]:
    """Images uint8 [n, h, w, 3] of the bundle's held-out ones, spread evenly over them, and what they show. Raises
    BundleError."""
    holdout = bundle.holdout()
    if holdout is None or not len(holdout[0]):
        size = bundle.manifest.input
        return np.zeros((0, size.height, size.width, 3), np.uint8), []
    images, targets = holdout
    count = max(1, min(MOST, len(images), MOST_BYTES // images[0].nbytes))
    rows = np.linspace(0, len(images) - 1, count).round().astype(int)
    return images[rows].copy(), [bundle.manifest.labels[int(target)] for target in targets[rows]]


def judged(
    classifier: Classifier,
    bundle: Bundle,
    generation: int,
    at_utc: float,
    scores: Scores | None = None,
    categories: Sequence[str] = (),
) -> Judgement:
    """The judgement of `bundle`, loaded as `classifier`. Raises InferenceError, BundleError."""
    images, truth = golden(bundle)
    answers = tuple(verdict.label for image in images for verdict in classifier.classify(image[None]))
    return Judgement(
        generation=generation,
        at_utc=at_utc,
        categories=tuple(categories),
        scores=scores,
        answers=answers,
        right=sum(answer == true for answer, true in zip(answers, truth, strict=True)),
    )


def facts(manifest: Manifest, digest: str, judgement: Judgement | None) -> dict[str, Any]:
    """What model this is, where it comes from and how good it was found to be, as plain values; for what nobody has
    found out yet, None."""
    return {
        "name": manifest.name,
        "digest": digest,
        "made_by": manifest.made_by,
        "from": "round" if manifest.parent else "bundle",
        "learned": list(judgement.categories) if judgement else [],
        "at_utc": judgement.at_utc if judgement else None,
        "golden_right": judgement.right if judgement else None,
        "golden": len(judgement.answers) if judgement else None,
        "scores": msgspec.to_builtins(judgement.scores) if judgement and judgement.scores else None,
    }


def _read(path: Path) -> dict[str, Judgement]:
    """None of them where the file cannot be read: they are taken anew."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return {}
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Judgement])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
