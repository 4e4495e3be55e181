"""What the features of each category look like, in closed form, and how new an image is.

Every category is a Gaussian over the features f >= 0 raised to `power` (Tukey's ladder: 0.5 makes pooled ReLU outputs
far less skewed). Its covariance is drawn towards the one that all categories share by `shrink`, the more the fewer
samples it was seen in. A category is learned from a few dozen features without any training step and without touching
the others: `with_class`. Features are float [n, D]; everything is numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

MAX_FEATURES = 4096
MAX_CLASSES = 10_000
QUANTILES = 101
# Part of the mean variance that is added to every variance: a feature that never fires would make the matrix singular.
RIDGE = 1e-3
# Where dormant and known logits are equally loud, in spreads of that sign above its median, at most. Held-out images of
# the cloud's training data are quieter than what a device meets, for the teacher was trained on them: scaled by them
# alone, 7.8 % of the known digits' test images were flagged where 2 % were meant; so it is 4.2 % (by distance alone
# 3.5 %). On held-out training images of CIFAR-10 it costs a truck's AUROC a little: 0.980 instead of 0.987.
EQUAL_ODDS = 1.6


class HeadError(ValueError):
    """Features or statistics that cannot be used; the message says which and why."""


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Means [C, D], covariances [C, D, D] (of the powered features) and counts [C] of the categories `labels`.

    `readout` [K, d + 1]: the network's last linear layer, which takes a feature's first d numbers, bias last: a row for
    each label, in their order, then those of dormant categories (`transfer.manifest`); empty where it says no more of
    novelty than the rest: it has no dormant rows and d is D.
    `novelty_quantiles` [101]: the novelty score's 0..100 % quantiles on known data held out of the fit, and
    `novelty_scale` [signs, 2]: the median and spread there of each sign of novelty; empty until `with_quantiles`.
    """

    labels: tuple[str, ...]
    means: npt.NDArray[np.float32]
    covariances: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    power: float = 0.5
    shrink: float = 0.6
    readout: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    novelty_quantiles: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    novelty_scale: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))

    # -- learning ------------------------------------------------------------------------------------------------

    def with_class(self, label: str, features: Floats, mirrored: Floats | None = None) -> ClassStatistics:
        """With `label` known from these features alone (at least 2); a category of that name is replaced. Without the
        readout, which knows nothing of the new label yet. `mirrored` [n, D]: those of the same images mirrored, which
        are looked at too but are no samples more."""
        every = features if mirrored is None else np.concatenate([features, mirrored])
        mean, covariance, _ = moments(self.powered(every))
        return self.with_gaussian(label, mean, covariance, len(features))

    def merge(self, label: str, features: Floats) -> ClassStatistics:
        """With more features of the known category `label`: the same as if it had been fitted to all of them."""
        known = self.index(label)
        n, m = int(self.counts[known]), len(features)
        powered = self.powered(features)
        if m == 0:
            return self
        gap = powered.mean(axis=0) - self.means[known]
        centred = powered - powered.mean(axis=0)
        scatter = self.covariances[known] * (n - 1) + centred.T @ centred + np.outer(gap, gap) * (n * m / (n + m))
        return self.with_gaussian(label, self.means[known] + gap * (m / (n + m)), scatter / (n + m - 1), n + m)

    def with_gaussian(self, label: str, mean: Floats, covariance: Floats, count: int) -> ClassStatistics:
        """With this mean [D] and covariance [D, D] of powered features for `label`, as if from `count` of them; see
        `with_class`."""
        if label in self.labels:
            rest = np.arange(len(self.labels)) != self.labels.index(label)
            at, labels = self.labels.index(label), self.labels
        else:
            rest = np.ones(len(self.labels), bool)
            at, labels = len(self.labels), (*self.labels, label)
        return replace(
            self,
            labels=labels,
            means=np.insert(self.means[rest], at, mean, axis=0).astype(np.float32),
            covariances=np.insert(self.covariances[rest], at, covariance, axis=0).astype(np.float32),
            counts=np.insert(self.counts[rest], at, count),
            readout=self.readout if label in self.labels else np.zeros((0, 0), np.float32),
        )

    def with_readout(self, weight: Floats, bias: Floats) -> ClassStatistics:
        """With the last linear layer (weight [K, d], bias [K]); the labels' rows first, then those of dormant ones."""
        whole = len(weight) >= len(self.labels) and weight.ndim == 2 and weight.shape[1] <= self.means.shape[1]
        if not whole or bias.shape != weight.shape[:1]:
            raise HeadError(f"weight {weight.shape} and bias {bias.shape} are no readout of {len(self.labels)} labels")
        telling = len(weight) > len(self.labels) or weight.shape[1] < self.means.shape[1]
        readout = np.concatenate([weight, bias[:, None]], axis=1) if telling else np.zeros((0, 0))
        return replace(self, readout=readout.astype(np.float32), novelty_scale=np.zeros((0, 2), np.float32))

    def with_quantiles(self, features: Floats) -> ClassStatistics:
        """With the scale of the novelty score taken from features of known categories that were not fitted."""
        if len(features) < 2:
            raise HeadError(f"{len(features)} held-out features are too few for quantiles")
        signs = self._signs(features)
        median, high = np.median(signs, axis=0), np.quantile(signs, 0.95, axis=0)
        # To equal odds (0) the second sign has at least so far to go: see EQUAL_ODDS.
        least = np.maximum(-median[1:] / EQUAL_ODDS, 1e-6)
        spread = np.maximum(high - median, np.concatenate([[1e-6], least]))
        scale = np.stack([median, spread], axis=1).astype(np.float32)
        scaled = replace(self, novelty_scale=scale)
        quantiles = np.quantile(scaled.novelty(features), np.linspace(0, 1, QUANTILES))
        return replace(scaled, novelty_quantiles=quantiles.astype(np.float32))

    # -- deciding ------------------------------------------------------------------------------------------------
    # `distances`: those of `distances(features)`, where they are at hand already; they are most of the work.

    def log_density(self, features: Floats, distances: Floats | None = None) -> npt.NDArray[np.float32]:
        """[n, C]: log of each category's Gaussian, up to the constant they share."""
        far = self.distances(features) if distances is None else distances
        density: npt.NDArray[np.float32] = -0.5 * (far + self.gaussians.log_determinants)
        return density

    def posterior(self, features: Floats, distances: Floats | None = None) -> npt.NDArray[np.float32]:
        """[n, C]: probability of each category, all equally likely beforehand."""
        density = self.log_density(features, distances)
        weight = np.exp(density - density.max(axis=1, keepdims=True))
        probability: npt.NDArray[np.float32] = weight / weight.sum(axis=1, keepdims=True)
        return probability

    def novelty(self, features: Floats, distances: Floats | None = None) -> npt.NDArray[np.float32]:
        """[n]: higher is more novel. By whichever sign is more unusual: how far the feature lies from every category,
        or how much louder the dormant logits are than those of the labels; each as a distance from its median on known
        data, in units of the way to its 95 % quantile. How far is measured in the numbers that the logits are made of:
        with those of an earlier map (`transfer.cells`) an airplane's AUROC was 0.78 instead of 0.93.

        Where the teacher knows what is new, the dormant logits see it best (AUROC 0.99 on training images of a truck
        that the student had never seen, against 0.89 by distance); where nobody does, only the distance can.
        """
        signs = self._signs(features, distances)
        if len(self.novelty_scale) == signs.shape[1]:
            signs = (signs - self.novelty_scale[:, 0]) / self.novelty_scale[:, 1]
        else:
            signs = signs[:, :1]  # not on one scale yet
        score: npt.NDArray[np.float32] = signs.max(axis=1).astype(np.float32)
        return score

    def _signs(self, features: Floats, distances: Floats | None = None) -> npt.NDArray[np.float32]:
        """[n, 1 or 2]: Mahalanobis distance to the nearest category; dormant against known logits, where there are any.

        Not the distance relative to all data together, which is sometimes better (AUROC 0.97 against 0.98) but
        fails where the network half knows the new category already (0.84 against 0.92 on CIFAR-10).
        """
        known, weight, bias = len(self.labels), self.readout[:, :-1], self.readout[:, -1:].T
        if len(self.readout) and weight.shape[1] < features.shape[1]:
            features = features[:, : weight.shape[1]]
            distances = self._beside_logits.distances(features)
        far = self.distances(features) if distances is None else distances
        distance: npt.NDArray[np.float32] = np.sqrt(far.min(axis=1))
        if len(self.readout) <= known:
            return distance[:, None]
        logits = features.astype(np.float32) @ weight.T + bias
        louder = np.logaddexp.reduce(logits[:, known:], axis=1) - np.logaddexp.reduce(logits[:, :known], axis=1)
        signs: npt.NDArray[np.float32] = np.stack([distance, louder], axis=1).astype(np.float32)
        return signs

    def false_alarm(self, score: float) -> float:
        """The share of known images that score higher than `score` (a p-value: near 0 for what is new)."""
        return 1.0 - float(np.interp(score, self._scale, np.linspace(0, 1, QUANTILES)))

    def threshold(self, false_alarm_rate: float) -> float:
        """The score that this share of known images exceeds."""
        return float(np.interp(1.0 - false_alarm_rate, np.linspace(0, 1, QUANTILES), self._scale))

    def distances(self, features: Floats) -> npt.NDArray[np.float32]:
        """[n, C] squared Mahalanobis distances, in blocks so that memory stays bounded for many images."""
        powered = self.powered(features).astype(np.float32)
        block = max(1, 2**22 // self.means.size)
        out = np.empty((len(powered), len(self.labels)), np.float32)
        for start in range(0, len(powered), block):
            gap = powered[start : start + block] - self.means[:, None, :]
            out[start : start + block] = np.square(gap @ self.gaussians.whiteners).sum(axis=2).T
        return out

    @cached_property
    def _beside_logits(self) -> ClassStatistics:
        """Of the first d numbers alone, which the readout takes."""
        d = self.readout.shape[1] - 1
        return replace(
            self,
            means=self.means[:, :d],
            covariances=np.ascontiguousarray(self.covariances[:, :d, :d]),
            readout=np.zeros((0, 0), np.float32),
        )

    # -- standing in for images ----------------------------------------------------------------------------------

    def sample(self, label: str | int, n: int, seed: int) -> npt.NDArray[np.float32]:
        """[n, D] pseudo-features of a category, drawn from its Gaussian, back on the scale of real features (>= 0).

        Its own covariance, not the shrunk one, which is for deciding: pseudo-features as wide as the shared covariance
        reach into the place of a new category."""
        known = label if isinstance(label, int) else self.index(label)
        noise = np.random.default_rng(seed).standard_normal((n, self.means.shape[1]))
        own = self.covariances[known].astype(np.float64)
        own[np.diag_indices_from(own)] += RIDGE * np.trace(own) / len(own) + 1e-8
        drawn = self.means[known] + noise @ np.linalg.cholesky(own).T
        return np.asarray(np.maximum(drawn, 0) ** (1 / self.power), np.float32)

    # -- the rest ------------------------------------------------------------------------------------------------

    def index(self, label: str) -> int:
        """Raises HeadError if there is no such category."""
        if label not in self.labels:
            raise HeadError(f"no category {label!r}; known are {', '.join(self.labels[:20])}")
        return self.labels.index(label)

    def powered(self, features: Floats) -> npt.NDArray[np.float64]:
        """Features on the scale of the Gaussians. Raises HeadError unless they are finite and [n, D]."""
        if features.ndim != 2 or features.shape[1] != self.means.shape[1]:
            raise HeadError(f"features are {features.shape}; expected [n, {self.means.shape[1]}]")
        return powered_features(features, self.power)

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All but the labels, for safetensors."""
        return {
            "means": self.means,
            "covariances": self.covariances,
            "counts": self.counts,
            "readout": self.readout,
            "novelty_quantiles": self.novelty_quantiles,
            "novelty_scale": self.novelty_scale,
            "power": np.array([self.power]),
            "shrink": np.array([self.shrink]),
        }

    @property
    def _scale(self) -> npt.NDArray[np.float32]:
        if not len(self.novelty_quantiles):
            raise HeadError("the novelty score has no scale yet: call with_quantiles on held-out features first")
        return self.novelty_quantiles

    @cached_property
    def gaussians(self) -> Gaussians:
        return factorise(self.covariances.astype(np.float64), self.counts, self.shrink)


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Per category W [C, D, D] with W W^T = inverse covariance, and the log determinant of the covariance [C]."""

    whiteners: npt.NDArray[np.float32]
    log_determinants: npt.NDArray[np.float32]


def shared_covariance(covariances: Floats, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[D, D]: the covariance within a category, averaged over all by their counts, with its ridge."""
    pooled = np.average(covariances, axis=0, weights=counts)
    ridge = RIDGE * np.trace(pooled) / len(pooled) + 1e-8
    return np.asarray(pooled + ridge * np.eye(len(pooled)))


def factorise(covariances: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], shrink: float) -> Gaussians:
    """Invert every category's shrunk covariance once, so that scoring an image is one multiplication."""
    shared = shared_covariance(covariances, counts)
    own = (1 - shrink) * counts / (counts + len(shared))
    drawn = own[:, None, None] * covariances + (1 - own)[:, None, None] * shared
    try:
        factors = np.linalg.cholesky(drawn)
    except np.linalg.LinAlgError as error:
        raise HeadError("a covariance is not positive definite: the class statistics are damaged") from error
    whiteners = np.linalg.inv(factors).transpose(0, 2, 1)
    log_determinants = 2 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    return Gaussians(np.ascontiguousarray(whiteners, np.float32), log_determinants.astype(np.float32))


def powered_features(features: Floats, power: float) -> npt.NDArray[np.float64]:
    """Raises HeadError unless all are finite."""
    if not np.isfinite(features).all():
        raise HeadError("features contain NaN or infinity")
    return np.asarray(np.maximum(features, 0).astype(np.float64) ** power)


def moments(powered: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Mean [D], covariance [D, D] (unbiased) and count of powered features [n, D]."""
    if len(powered) < 2:
        raise HeadError(f"{len(powered)} features of a category; a covariance needs at least 2")
    return powered.mean(axis=0), np.atleast_2d(np.cov(powered, rowvar=False)), len(powered)


def checked(statistics: ClassStatistics) -> ClassStatistics:
    """The same statistics, if shapes and settings hold together; raises HeadError."""
    s, classes = statistics, len(statistics.labels)
    if not 1 <= classes <= MAX_CLASSES or len(set(s.labels)) != classes:
        raise HeadError(f"{classes} labels: there must be 1 to {MAX_CLASSES}, all different")
    if s.means.ndim != 2 or len(s.means) != classes or not 1 <= s.means.shape[1] <= MAX_FEATURES:
        raise HeadError(f"means are {s.means.shape}; expected [{classes}, 1..{MAX_FEATURES}]")
    width = s.means.shape[1]
    if s.covariances.shape != (classes, width, width):
        raise HeadError(f"covariances are {s.covariances.shape}; expected [{classes}, {width}, {width}]")
    if s.counts.shape != (classes,) or (s.counts < 2).any():
        raise HeadError(f"counts must be [{classes}] and at least 2")
    if s.novelty_quantiles.shape not in ((0,), (QUANTILES,)) or (np.diff(s.novelty_quantiles) < 0).any():
        raise HeadError(f"novelty_quantiles must be empty or {QUANTILES} ascending numbers")
    if s.readout.shape != (0, 0) and (s.readout.ndim != 2 or not 2 <= s.readout.shape[1] <= width + 1):
        raise HeadError(f"readout is {s.readout.shape}; expected [labels and more, 2..{width + 1}]")
    if s.readout.shape != (0, 0) and not classes <= len(s.readout) <= MAX_CLASSES:
        raise HeadError(f"readout has {len(s.readout)} rows for {classes} labels: fewer, or more than {MAX_CLASSES}")
    if s.novelty_scale.shape not in ((0, 2), (1, 2), (2, 2)) or (s.novelty_scale[:, 1] <= 0).any():
        raise HeadError("novelty_scale must be a median and a spread above 0 for each sign")
    if not 0 < s.power <= 1 or not 0 <= s.shrink <= 1:
        raise HeadError(f"power {s.power} must be in (0, 1] and shrink {s.shrink} in [0, 1]")
    return s
