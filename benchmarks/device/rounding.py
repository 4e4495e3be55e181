"""What int8 weights cost on real images: accuracy and novelty of a trained student, packed in both ways.

Torch and the data set's official files are needed; all that was trained before is found in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from transfer import tflite
from transfer.graph import network_graph
from transfer.head import decide
from transfer.interpreter import Interpreter
from transfer.preprocess import normalise
from transfer.tflite import Quantise

if TYPE_CHECKING:
    from benchmarks.setting import Setting
    from benchmarks.students import Student

BATCH = 64

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Judged:
    """top1: percent of the known categories' test images that were named rightly. auroc: how well the novelty score
    tells the test images of the category that the student does not know from those. bytes: of the model's file."""

    top1: float
    auroc: float
    bytes: int


def judged(setting: Setting, begun: Student, quantise: Quantise) -> Judged:
    """The student packed like this, its class statistics made by that very model, as `understudy teacher compress`
    does; on the test images, all of them."""
    from benchmarks.novelty import auroc
    from cloud_teacher.compress import divide, measure
    from transfer.networks import build

    manifest, weights = begun.bundle.manifest, begun.bundle.weights()
    size, known = manifest.input, setting.dataset.only(manifest.labels)
    model = tflite.write(network_graph(manifest.net, weights, size.height, size.width), quantise=quantise)
    interpreter = Interpreter(model)
    parts = divide(known.train_targets, setting.plan.holdout_per_class)
    statistics = measure(model, build(manifest.net, weights), size, known, parts)

    def seen(images: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        spans = (images[at : at + BATCH] for at in range(0, len(images), BATCH))
        logits, features = zip(*(interpreter.run(normalise(span, size)) for span in spans), strict=True)
        return np.concatenate(logits), np.concatenate(features)

    fresh = ~np.isin(setting.dataset.test_targets, [setting.dataset.labels.index(label) for label in manifest.labels])
    logits, features = seen(known.test_images)
    said = decide(manifest.decision, statistics, logits, features).argmax(axis=1)
    _, strange = seen(setting.dataset.test_images[fresh])
    return Judged(
        top1=100 * float((said == known.test_targets).mean()),
        auroc=auroc(statistics.novelty(features), statistics.novelty(strange)),
        bytes=len(model),
    )
