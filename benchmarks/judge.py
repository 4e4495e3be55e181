"""How good predictions are, and what the served model predicts: its .tflite and its manifest's decision, as on a
device."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from agent.adapters.inference import Classifier
from benchmarks.measured import Measured
from cloud_teacher.datasets import Dataset
from transfer.blueprint import macs, parameters
from transfer.bundle import Bundle
from transfer.spec import NetSpec

Targets = npt.NDArray[np.int64]
BATCH = 64


def measured(
    said: Targets, truth: Targets, new: Collection[int], *, spec: NetSpec, side: tuple[int, int], seconds: float | None
) -> Measured:
    """From predictions [n] and truth [n], indices into the same labels, of which `new` were learned on the device."""
    right, fresh = said == truth, np.isin(truth, list(new))
    old, learned = percent(right[~fresh]), percent(right[fresh])
    return Measured(
        params=parameters(spec),
        macs=macs(spec, *side),
        old=old,
        new=learned,
        all=percent(right),
        harmonic=harmonic(old, learned),
        seconds=seconds,
    )


def percent(right: npt.NDArray[np.bool_]) -> float | None:
    return 100 * float(right.mean()) if len(right) else None


def harmonic(a: float | None, b: float | None) -> float | None:
    """2ab / (a + b): near the smaller of the two, so a method that forgets, or learns nothing, scores nothing."""
    if a is None or b is None:
        return None
    return 2 * a * b / (a + b) if a + b else 0.0


def truth_in(data: Dataset, labels: tuple[str, ...]) -> Targets:
    """The test images' targets as indices into `labels`, in whatever order; -1 where it is none of them."""
    place = np.array([labels.index(label) if label in labels else -1 for label in data.labels], np.int64)
    found: Targets = place[data.test_targets]
    return found


def served(bundle: Bundle, images: npt.NDArray[np.uint8]) -> Targets:
    """What a device that runs this bundle says of images uint8 [n, h, w, 3]: indices into its labels."""
    classifier, labels = Classifier(bundle, 0), bundle.manifest.labels
    spans = (images[at : at + BATCH] for at in range(0, len(images), BATCH))
    return np.array([labels.index(verdict.label) for span in spans for verdict in classifier.classify(span)], np.int64)
