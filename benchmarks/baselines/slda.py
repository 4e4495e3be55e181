"""Streaming linear discriminant analysis over frozen features (Hayes and Kanan 2020): one mean a category, one
covariance for all, both updated image by image."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from benchmarks.baselines.old_images import Images, features, plain_statistics
from benchmarks.setting import Setting
from benchmarks.students import Student
from transfer.spec import NetSpec

SHRINKAGE = 1e-4
"""Of the covariance towards the identity: the authors' value."""


class StreamingLda:
    """See `learner.Learner`."""

    def __init__(self, setting: Setting, student: Student) -> None:
        self._bundle = student.bundle
        statistics = plain_statistics(setting, student.bundle)
        self._means = statistics.means.astype(np.float64)
        self._covariance = np.average(statistics.covariances.astype(np.float64), axis=0, weights=statistics.counts)
        self._count = int(statistics.counts.sum())
        self.labels = student.bundle.manifest.labels
        self.seconds = 0.0

    @property
    def net(self) -> NetSpec:
        return self._bundle.manifest.net

    def learn(self, category: str, images: Images) -> None:
        began_s = time.monotonic()
        rows = features(self._bundle, images).astype(np.float64)
        mean = rows[0]
        for seen, row in enumerate(rows[1:], 1):
            gap = row - mean
            self._covariance *= self._count / (self._count + 1)
            self._covariance += np.outer(gap, gap) * (self._count / (self._count + 1) ** 2)
            self._count += 1
            mean = mean + gap / (seen + 1)
        self._means = np.concatenate([self._means, mean[None]])
        self.labels = (*self.labels, category)
        self.seconds += time.monotonic() - began_s

    def predict(self, images: Images) -> npt.NDArray[np.int64]:
        width = len(self._covariance)
        precision = np.linalg.inv((1 - SHRINKAGE) * self._covariance + SHRINKAGE * np.eye(width))
        weight = self._means @ precision
        bias = -0.5 * (weight * self._means).sum(axis=1)
        return np.asarray((features(self._bundle, images) @ weight.T + bias).argmax(axis=1), np.int64)
