"""Images of the old categories that the student was trained on. They are in the cloud; what is computed from them here
(means, covariances, latents) is what a bundle would have to carry to the device."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from benchmarks.setting import Setting, drawn
from cloud_teacher.compress import divide
from transfer import tflite
from transfer.bundle import Bundle
from transfer.class_statistics import ClassStatistics, HeadError
from transfer.durable import write_atomic
from transfer.head import fit, from_arrays

Images = npt.NDArray[np.uint8]
Targets = npt.NDArray[np.int64]
PER_CATEGORY = 1000
"""As many as `cloud_teacher.compress` makes its own statistics of."""
BATCH = 64


def trained_on(setting: Setting, known: Sequence[str], each: int, salt: str) -> tuple[Images, Targets]:
    """`each` of every known category's images that the student was trained on, and their indices into `known`."""
    data = setting.dataset.only(known)
    train = divide(data.train_targets, setting.plan.holdout_per_class).train
    rows = np.concatenate([drawn(train[data.train_targets[train] == at], each, salt) for at in range(len(data.labels))])
    place = np.array([tuple(known).index(label) for label in data.labels], np.int64)
    return data.train_images[rows], place[data.train_targets[rows]]


def features(bundle: Bundle, images: Images) -> npt.NDArray[np.float32]:
    """[n, D], as the device's interpreter computes them."""
    return tflite.features(bundle.read("model.tflite"), images, bundle.manifest.input)


def plain_statistics(setting: Setting, bundle: Bundle) -> ClassStatistics:
    """Means and covariances of the old categories' features as they are (power 1), kept in the cache."""
    labels = bundle.manifest.labels
    path = setting.cache / "features" / f"{bundle.digest[:24]}.safetensors"
    if path.exists():
        with contextlib.suppress(HeadError):  # of an earlier version: made again
            return from_arrays(load_file(path), labels)
    images, targets = trained_on(setting, labels, PER_CATEGORY, "statistics")
    found = fit(features(bundle, images), targets, labels, power=1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save({name: np.ascontiguousarray(array) for name, array in found.to_arrays().items()}))
    return found
