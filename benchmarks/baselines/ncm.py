"""Nearest class mean over frozen features (as in iCaRL, Rebuffi et al. 2017, without exemplars): features and means on
the unit sphere. Of the old categories only their mean is needed."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from benchmarks.baselines.old_images import Images, features, plain_statistics
from benchmarks.setting import Setting
from benchmarks.students import Student
from transfer.spec import NetSpec


class NearestMean:
    """See `learner.Learner`."""

    def __init__(self, setting: Setting, student: Student) -> None:
        self._bundle = student.bundle
        self._means = _unit(plain_statistics(setting, student.bundle).means)
        self.labels = student.bundle.manifest.labels
        self.seconds = 0.0

    @property
    def net(self) -> NetSpec:
        return self._bundle.manifest.net

    def learn(self, category: str, images: Images) -> None:
        began_s = time.monotonic()
        mean = _unit(features(self._bundle, images)).mean(axis=0, keepdims=True)
        self._means = np.concatenate([self._means, _unit(mean)])
        self.labels = (*self.labels, category)
        self.seconds += time.monotonic() - began_s

    def predict(self, images: Images) -> npt.NDArray[np.int64]:
        # On the sphere the nearest is the one with the largest cosine.
        return np.asarray((_unit(features(self._bundle, images)) @ self._means.T).argmax(axis=1), np.int64)


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length: npt.NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = rows / np.maximum(length, np.float32(1e-12))
    return unit
