"""The statistical head: fit class statistics to features, read them from outside, choose the features that a new
category is learned from, and give the linear layer a row for it. Numpy only, about a second on a small device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from transfer.class_statistics import (
    ClassStatistics,
    Floats,
    HeadError,
    checked,
    moments,
    powered_features,
    shared_covariance,
)

__all__ = ["ClassStatistics", "HeadError", "append_row", "decide", "fit", "from_arrays", "largest_cluster"]

# A cluster is sought along this many directions, and reaches this many times as far as its median member.
DIRECTIONS = 8
REACH = 2.0
ROUNDS = 20

Decision = Literal["logits", "gaussian", "fused"]
FUSION = 4.0
"""Weight of the logits in `fused`. Of 0.5, 1, 2 and 4, tried on held-out training images of CIFAR-10 after
`transfer.regression`, the largest was best: 92.2, 92.3, 92.3 and 92.4 % of ten categories (92.1 by the Gaussians alone,
92.2 by the logits alone)."""
POWERS, SHRINKS = (1.0, 0.7, 0.5), (0.6, 0.9, 0.3)
SMALLEST_PROBABILITY = 1e-12


def fit(
    features: Floats,
    targets: npt.NDArray[np.integer],
    labels: Sequence[str],
    power: float = 0.5,
    shrink: float = 0.6,
) -> ClassStatistics:
    """The statistics of `features` [n, D] whose category is labels[targets]. Raises HeadError; every category needs
    at least two features."""
    if features.ndim != 2 or targets.shape != features.shape[:1]:
        raise HeadError(f"features {features.shape} and targets {targets.shape} do not belong together")
    if not 0 < power <= 1 or not 0 <= shrink <= 1:
        raise HeadError(f"power {power} must be in (0, 1] and shrink {shrink} in [0, 1]")
    powered = powered_features(features, power)
    each = [moments(powered[targets == known]) for known in range(len(labels))]
    return checked(
        ClassStatistics(
            labels=tuple(labels),
            means=np.array([mean for mean, _, _ in each], np.float32),
            covariances=np.array([covariance for _, covariance, _ in each], np.float32),
            counts=np.array([count for _, _, count in each], np.int64),
            power=power,
            shrink=shrink,
        )
    )


def fit_best(
    features: Floats,
    targets: npt.NDArray[np.integer],
    labels: Sequence[str],
    held_features: Floats,
    held_targets: npt.NDArray[np.integer],
) -> ClassStatistics:
    """`fit` with the power and shrinkage of POWERS and SHRINKS that decide best on held-out features; its novelty score
    is scaled on them."""
    tried = [fit(features, targets, labels, power, shrink) for power in POWERS for shrink in SHRINKS]
    right = [(each.log_density(held_features).argmax(axis=1) == held_targets).mean() for each in tried]
    return tried[int(np.argmax(right))].with_quantiles(held_features)


def from_arrays(arrays: Mapping[str, npt.NDArray[np.generic]], labels: Sequence[str]) -> ClassStatistics:
    """The inverse of `to_arrays`, for arrays from outside. Raises HeadError."""
    expected = {"means", "covariances", "counts", "readout", "novelty_quantiles", "novelty_scale", "power", "shrink"}
    if set(arrays) != expected:
        raise HeadError(f"class statistics hold {sorted(arrays)}; expected {sorted(expected)}")
    for name in expected:
        dtype = {"counts": np.int64, "power": np.float64, "shrink": np.float64}.get(name, np.float32)
        if arrays[name].dtype != dtype or not np.isfinite(arrays[name].astype(np.float64)).all():
            raise HeadError(f"class statistics: {name} must be finite and {np.dtype(dtype)}")
    if arrays["power"].shape != (1,) or arrays["shrink"].shape != (1,):
        raise HeadError("class statistics: power and shrink must be single numbers")
    statistics = checked(
        ClassStatistics(
            labels=tuple(labels),
            means=arrays["means"].astype(np.float32),
            covariances=arrays["covariances"].astype(np.float32),
            counts=arrays["counts"].astype(np.int64),
            power=float(arrays["power"][0]),
            shrink=float(arrays["shrink"][0]),
            readout=arrays["readout"].astype(np.float32),
            novelty_quantiles=arrays["novelty_quantiles"].astype(np.float32),
            novelty_scale=arrays["novelty_scale"].astype(np.float32),
        )
    )
    _ = statistics.gaussians  # factorised now, so that a damaged covariance fails here and not at the first image
    return statistics


def decide(decision: Decision, statistics: ClassStatistics, logits: Floats, features: Floats) -> Floats:
    """[n, C] probability of each category, by the largest logit, the densest Gaussian, or both.

    `fused`: the Gaussians know where the old categories lie, the logits were trained to tell the new one from them;
    the sum of their log probabilities, the logits' by FUSION, gains where categories are close (CIFAR-10) and nothing
    where the Gaussians alone are sure (digits). logits [n, >= C], features [n, D].
    """
    if decision == "gaussian":
        return statistics.posterior(features)
    log_p = logits[:, : len(statistics.labels)]
    log_p = log_p - log_p.max(axis=1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    if decision == "fused":
        log_p = FUSION * log_p + np.log(np.maximum(statistics.posterior(features), SMALLEST_PROBABILITY))
        log_p = log_p - log_p.max(axis=1, keepdims=True)
    probability: Floats = np.exp(log_p)
    probability /= probability.sum(axis=1, keepdims=True)
    return probability


def append_row(weight: Floats, bias: Floats, mean_feature: Floats) -> tuple[Floats, Floats]:
    """Give the linear layer (weight [C, D], bias [C]) a row for a new category: its mean feature [D] at the mean norm
    of the other rows, with their mean bias, so that it neither drowns nor shouts before it is trained."""
    norm = np.linalg.norm(mean_feature)
    if not np.isfinite(norm) or norm == 0:
        raise HeadError("the mean feature of the new category is zero or not finite: the network does not see it")
    row = mean_feature / norm * np.linalg.norm(weight, axis=1).mean()
    return (
        np.concatenate([weight, row[None].astype(weight.dtype)]),
        np.concatenate([bias, [bias.mean()]]).astype(bias.dtype),
    )


def grown_rows(
    weight: Floats, bias: Floats, known: int, dormant: Sequence[str], means: Mapping[str, Floats | None]
) -> tuple[Floats, Floats, tuple[str, ...]]:
    """The linear layer with a row for each category of `means`, behind those of the `known` labels and before those of
    the dormant categories that are left, which are named last.

    A dormant category already has its row; another starts at its mean feature. Raises HeadError for one that is neither
    dormant nor has a mean (None).
    """
    rows, offsets = weight[:known], bias[:known]
    for category, mean in means.items():
        if category in dormant:
            at = known + dormant.index(category)
            rows, offsets = np.concatenate([rows, weight[at : at + 1]]), np.append(offsets, bias[at])
        elif mean is not None:
            row, offset = append_row(weight[:known], bias[:known], mean)
            rows, offsets = np.concatenate([rows, row[-1:]]), np.append(offsets, offset[-1])
        else:
            raise HeadError(f"no sample is of {category!r}, and the model was taught nothing about it")
    left = [at for at, name in enumerate(dormant, known) if name not in means]
    return (
        np.concatenate([rows, weight[left]]).astype(np.float32),
        np.concatenate([offsets, bias[left]]).astype(np.float32),
        tuple(dormant[at - known] for at in left),
    )


def largest_cluster(features: Floats, known: ClassStatistics) -> npt.NDArray[np.bool_]:
    """[n] True for the members of the largest cluster in a buffer of novel features [n, D].

    A buffer always holds some false alarms; they must not become part of what the new category is taken to look
    like. Grown from the densest half of the buffer, less what a known category explains better. Deliberately
    generous: features at the edge teach more than a few false alarms harm. Raises HeadError below 4 features.
    """
    if len(features) < 4:
        raise HeadError(f"{len(features)} features are too few to find a cluster in; wait for at least 4")
    points = _main_directions(known, features)
    members = _densest_half(points)
    for _ in range(ROUNDS):
        radius = np.linalg.norm(points - points[members].mean(axis=0), axis=1)
        reached = radius <= REACH * np.median(radius[members])
        if (reached == members).all():
            break
        members = reached
    unexplained = members & _unexplained(known, features, members)
    return unexplained if unexplained.sum() >= 2 else members


def _main_directions(known: ClassStatistics, features: Floats) -> npt.NDArray[np.float64]:
    """[n, <= DIRECTIONS]: where the buffer varies most, measured in units of the spread within known categories."""
    factor = np.linalg.cholesky(shared_covariance(known.covariances, known.counts))
    white = np.linalg.solve(factor, known.powered(features).T).T
    centred = white - white.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:DIRECTIONS]
    return np.asarray(centred @ directions.T)


def _densest_half(points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """The half of the points in the smallest ball around one of them."""
    square = np.square(points).sum(axis=1)
    distance = square[:, None] + square[None, :] - 2 * points @ points.T
    half = len(points) // 2
    nearest = np.argpartition(distance, half - 1, axis=1)[:, :half]
    radius = np.take_along_axis(distance, nearest, axis=1).max(axis=1)
    members = np.zeros(len(points), bool)
    members[nearest[radius.argmin()]] = True
    return members


def _unexplained(known: ClassStatistics, features: Floats, members: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """[n] True where a category made of `members` explains a feature better than any known one, each weighed by its
    share of the buffer."""
    density = known.with_class("\0new", features[members]).log_density(features)  # no real label has a \0
    shares = np.bincount(density.argmax(axis=1), minlength=density.shape[1]) + 1
    return np.asarray((density + np.log(shares)).argmax(axis=1) == density.shape[1] - 1)
