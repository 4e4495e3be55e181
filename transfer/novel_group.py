"""What many images say together: whether a group holds something new at all, and which of them are of one new category.

One image is weak evidence where categories are close; a group is not. Numpy only, milliseconds for a buffer.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from transfer.class_statistics import ClassStatistics, Floats, HeadError, shared_covariance

LEVELS = (0.01, 0.02, 0.05, 0.1)
"""Shares of known images that score above the thresholds at which a group's scores are counted. Novel images that are
easily seen crowd above the first, weak ones show at the last."""
SURE = 0.95
"""Of all devices, this share has thresholds that are no worse than they are taken for."""
FEWEST_HELD_OUT = 225
"""From how many held-out images the novelty quantiles are taken to come where nobody knows: few, so that their own
chance is not mistaken for something new."""

DRAWN = 9999
"""Groups of known images that a group is compared with: one more than these is the finest p-value's inverse."""

FEWEST, NEIGHBOURS, SEEDS, ROUNDS = 4, 5, 64, 15
APART = 1.25
"""Two groups are two categories where their centres are as far apart as the two closest known ones, and where their
squared distance is this many times the mean square of the members' distance from their own. On training images
that a student of CIFAR-10 was not trained on the latter was 0.5 to 1.0 in nine of ten groups of trucks that it was
taught about, and 1.3 to 2.4 between trucks and cars."""

Mask = npt.NDArray[np.bool_]
Squares = npt.NDArray[np.float64]


# ------------------------------------------------------------------------------------------- is there anything new


def found(
    scores: Floats, known: ClassStatistics, false_alarm_rate: float = 0.01, held_out: int = FEWEST_HELD_OUT
) -> bool:
    """Whether a group of images with these novelty scores [n] holds something new; of groups of known images alone, at
    most `false_alarm_rate` are said to. See `chance`."""
    return chance(scores, known, held_out) <= false_alarm_rate


def chance(scores: Floats, known: ClassStatistics, held_out: int = FEWEST_HELD_OUT) -> float:
    """How likely known images alone are to give a group in which so many score so high (a p-value).

    `scores` [n] by `known.novelty`, of all images of the group, not only of those that were kept. `held_out`: how many
    images the quantiles of `known` come from; to take them for fewer is safe and sees less. A device keeps its
    quantiles, and all its groups share their luck: the p-value is that of unlucky ones, see SURE. The statistic is the
    least likely of the counts at LEVELS; its distribution does not depend on that of the scores, so it is drawn once
    for each n. Holds where the known images are like the held-out ones: a camera that was moved is something new, too.
    Raises HeadError without quantiles.
    """
    if held_out < 2:
        raise HeadError(f"quantiles of {held_out} held-out images say nothing; at least 2 are needed")
    if not len(scores):
        return 1.0
    n = len(scores)
    counts = (int((scores > known.threshold(level)).sum()) for level in LEVELS)
    least = min(_tail(share, n)[count] for share, count in zip(_shares(held_out), counts, strict=True))
    return (1 + int(np.searchsorted(_least(n, held_out), least, "right"))) / (1 + DRAWN)


@lru_cache(maxsize=16)
def _shares(held_out: int) -> tuple[float, ...]:
    """Of all known images, the shares above the thresholds at LEVELS where `held_out` images made them badly: as large
    as SURE of all devices have at most. The shares between order statistics are Dirichlet distributed, whatever the
    scores are."""
    random = np.random.default_rng(0)  # the same answer for the same group, always
    between = np.diff((0.0, *LEVELS, 1.0)) * (held_out - 1)
    between[[0, -1]] += 1
    above = random.dirichlet(between, DRAWN)[:, :-1].cumsum(axis=1)
    return tuple(float(share) for share in np.quantile(above, SURE, axis=0))


@lru_cache(maxsize=64)
def _tail(share: float, n: int) -> npt.NDArray[np.float64]:
    """P(at least k of n images), k = 0..n, where each is one with probability `share`: binomial."""
    choose = np.concatenate([[0.0], np.log(np.arange(1, n + 1)).cumsum()])
    count = np.arange(n + 1)
    log_p = choose[-1] - choose - choose[::-1] + count * np.log(share) + (n - count) * np.log1p(-share)
    tail: npt.NDArray[np.float64] = np.minimum(1.0, np.exp(log_p)[::-1].cumsum()[::-1])
    return tail


@lru_cache(maxsize=16)
def _least(n: int, held_out: int) -> npt.NDArray[np.float64]:
    """[DRAWN], ascending: the least of the tails at LEVELS, for groups of n known images."""
    random = np.random.default_rng(1)
    shares = _shares(held_out)
    above = random.multinomial(n, np.diff((0.0, *shares, 1.0)), DRAWN).cumsum(axis=1)
    return np.sort(np.min([_tail(share, n)[above[:, at]] for at, share in enumerate(shares)], axis=0))


# ------------------------------------------------------------------------------------------- which belong together


def largest_cluster(features: Floats, known: ClassStatistics, width: int | None = None) -> Mask:
    """[n] True for the members of the largest new category in a buffer of novel features [n, D]; nowhere True where no
    two lie closer together than to what is known.

    A buffer always holds some false alarms; they must not become part of what the new category is taken to look like.
    The known centres stay where they are and one free centre is fitted: its members are those that lie closer to it
    than to any known centre, in the metric of the spread that all categories share. Of many starts the one that
    explains most is taken. A second free centre then takes from the first what is of another new category.
    Only the first `width` numbers of a feature are looked at (all if None): centres of few samples are the worse known
    the more numbers they have. Raises HeadError below FEWEST features.
    """
    if len(features) < FEWEST:
        raise HeadError(f"{len(features)} features are too few to find a cluster in; wait for at least {FEWEST}")
    points, centres = _whitened(known, features, known.means.shape[1] if width is None else width)
    explained = _between(points, centres).min(axis=1)
    first = _best(points, explained)
    if first is None:
        return np.zeros(len(points), bool)
    second = _best(points, np.minimum(explained, _from_centre(points, first)))
    return first if second is None else _larger(points, explained, first, second, _spacing(centres))


def _whitened(known: ClassStatistics, features: Floats, width: int) -> tuple[Squares, Squares]:
    """The features [n, width] and the known centres [C, width] in units of the spread within known categories."""
    factor = np.linalg.cholesky(shared_covariance(known.covariances, known.counts)[:width, :width])
    points, centres = known.powered(features)[:, :width], known.means[:, :width].astype(np.float64)
    return np.linalg.solve(factor, points.T).T, np.linalg.solve(factor, centres.T).T


def _spacing(centres: Squares) -> float:
    """The squared distance of the two known centres that are closest; 0 where there is only one."""
    return float(np.sort(_between(centres, centres), axis=1)[:, 1].min()) if len(centres) > 1 else 0.0


def _between(points: Squares, others: Squares) -> Squares:
    """[n, m] squared distances."""
    square = np.square(points).sum(axis=1)[:, None] + np.square(others).sum(axis=1) - 2 * points @ others.T
    return np.asarray(np.maximum(square, 0))


def _from_centre(points: Squares, members: Mask) -> Squares:
    """[n] squared distances to the members' true centre, estimated without bias: a member from the centre of the
    others, for it draws its own centre near; less what the centre of so few is expected to be off."""
    count = int(members.sum())
    square = np.square(points - points[members].mean(axis=0)).sum(axis=1)
    square[members] *= (count / (count - 1)) ** 2
    spread = square[members].mean() * (count - 1) / count
    return np.asarray(square - spread / np.where(members, count - 1, count))


def _best(points: Squares, explained: Squares) -> Mask | None:
    """The members that gain most by a centre of their own, over `explained` [n], their squared distances without it."""
    distance = _between(points, points)
    nearest = np.argsort(distance, axis=1)[:, :NEIGHBOURS]
    radius = np.take_along_axis(distance, nearest, axis=1)[:, -1]
    grown = (_grown(points, explained, nearest[seed]) for seed in np.argsort(radius - explained)[:SEEDS])
    members = [each for each in grown if each is not None]
    gains = [float((explained - _from_centre(points, each))[each].sum()) for each in members]
    return members[int(np.argmax(gains))] if members else None


def _grown(points: Squares, explained: Squares, start: npt.NDArray[np.intp]) -> Mask | None:
    """From a few neighbours to all that lie closer to their centre than `explained`; None where they are none."""
    members = np.zeros(len(points), bool)
    members[start] = True
    for _ in range(ROUNDS):
        closer = _from_centre(points, members) < explained
        if closer.sum() < 2:
            return None
        if (closer == members).all():
            break
        members = closer
    return members


def _larger(points: Squares, explained: Squares, first: Mask, second: Mask, spacing: float) -> Mask:
    """The larger of two groups that start as the second and the rest of the first, where they become two categories
    (see APART; `spacing` is that of the known centres, squared); else the first alone."""
    pair = [first & ~second, second]
    for _ in range(ROUNDS):
        if min(each.sum() for each in pair) < 2:
            return first
        one, other = (_from_centre(points, each) for each in pair)
        closer = [(one < explained) & (one < other), (other < explained) & (other <= one)]
        if all((new == old).all() for new, old in zip(closer, pair, strict=True)):
            break
        pair = closer
    counts = [int(each.sum()) for each in pair]
    if min(counts) < 2:
        return first
    spread = sum(_from_centre(points, each)[each].sum() for each in pair) / sum(counts)
    gap = np.square(points[pair[0]].mean(axis=0) - points[pair[1]].mean(axis=0)).sum()
    gap -= spread * sum(1 / count for count in counts)  # two centres of few are apart by chance alone
    return pair[int(np.argmax(counts))] if gap > max(APART * spread, spacing) else first
