"""What many images say together: is there anything new, and which of them belong together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.head import ClassStatistics, HeadError, fit
from transfer.novel_group import FEWEST_HELD_OUT, _tail, chance, found, largest_cluster

WIDTH = 32
KINDS = 6


def features_of(kind: int, n: int, seed: int) -> np.ndarray:
    centre = np.random.default_rng(kind).uniform(0.5, 2, WIDTH)
    noise = np.random.default_rng([kind, seed]).standard_normal((n, WIDTH))
    return (np.maximum(centre + noise * 0.4, 0) ** 2).astype(np.float32)


def of_the_known(n: int, seed: int) -> np.ndarray:
    return np.concatenate([features_of(kind, n, seed) for kind in range(KINDS)])


def known(held_out_each: int = 150) -> ClassStatistics:
    statistics = fit(of_the_known(150, 0), np.repeat(np.arange(KINDS), 150), [f"c{kind}" for kind in range(KINDS)])
    return statistics.with_quantiles(of_the_known(held_out_each, 1))


KNOWN = known()
ALARMS = of_the_known(200, 3)[np.argsort(-KNOWN.novelty(of_the_known(200, 3)))]
"""Features of known categories, what looks newest first."""


# ------------------------------------------------------------------------------------------- is there anything new


def in_units_of_chance(held_out: int, seed: int) -> tuple[ClassStatistics, np.random.Generator]:
    """Statistics whose scores are uniform on 0..1 for known images, with the quantiles of so many of them."""
    random = np.random.default_rng(seed)
    quantiles = np.quantile(random.uniform(size=held_out), np.linspace(0, 1, 101)).astype(np.float32)
    return ClassStatistics(KNOWN.labels, KNOWN.means, KNOWN.covariances, KNOWN.counts, novelty_quantiles=quantiles), (
        random
    )


@pytest.mark.parametrize("held_out", [60, 225, 4000])
def test_known_images_alone_are_rarely_said_to_hold_something_new(held_out: int) -> None:
    """The quantiles are drawn anew each time, so that their own chance counts."""
    alarms = 0
    for seed in range(800):
        statistics, random = in_units_of_chance(held_out, seed)
        alarms += found(random.uniform(size=500), statistics, 0.05, held_out)
    assert alarms / 800 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 800)


def test_quantiles_of_few_images_would_give_false_alarms_if_they_were_taken_for_many() -> None:
    alarms = 0
    for seed in range(300):
        statistics, random = in_units_of_chance(60, seed)
        alarms += found(random.uniform(size=500), statistics, 0.05, held_out=100_000)
    assert alarms / 300 > 0.1


@pytest.mark.parametrize(("held_out", "auroc"), [(225, 0.99), (4000, 0.95)])
def test_a_tenth_that_is_new_is_noticed(held_out: int, auroc: float) -> None:
    noticed = 0
    for seed in range(100):
        statistics, random = in_units_of_chance(held_out, seed)
        new = random.uniform(size=50) ** (1 / auroc - 1)
        noticed += found(np.concatenate([random.uniform(size=450), new]), statistics, 0.01, held_out)
    assert noticed >= 95


def test_real_scores_are_judged_too() -> None:
    old, new = KNOWN.novelty(of_the_known(75, 4)), KNOWN.novelty(features_of(11, 50, 0))
    assert not found(old, KNOWN, 0.01, KINDS * 150)
    assert found(np.concatenate([old, new]), KNOWN, 0.01, KINDS * 150)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60),
    st.integers(0, 59),
    st.integers(2, 5000),
    st.integers(0, 20),
)
def test_a_higher_score_never_makes_it_more_likely_to_be_chance(
    scores: list[float], which: int, held_out: int, seed: int
) -> None:
    statistics, _ = in_units_of_chance(200, seed)
    group = np.array(scores)
    before = chance(group, statistics, held_out)
    assert 0 < before <= 1
    group[which % len(group)] = 2.0
    assert chance(group, statistics, held_out) <= before
    assert chance(np.full(len(group), -1.0), statistics, held_out) == 1


@settings(deadline=None, max_examples=60)
@given(st.floats(1e-6, 0.999), st.integers(1, 400))
def test_the_tail_is_that_of_a_distribution_with_the_right_mean(share: float, n: int) -> None:
    tail = np.array(_tail(share, n))
    assert tail.shape == (n + 1,) and tail[0] == pytest.approx(1) and (np.diff(tail) <= 1e-12).all()
    # The sum of P(at least k) over k >= 1 is the mean.
    assert tail[1:].sum() == pytest.approx(n * share, rel=1e-6)


@pytest.mark.parametrize("held_out", [60, 225])
def test_unlucky_devices_too_raise_few_false_alarms(held_out: int) -> None:
    """Each device keeps its quantiles: on average over all would not help the one that drew badly."""
    devices, groups, rate = 60, 100, 0.05
    over = 0
    for seed in range(devices):
        statistics, random = in_units_of_chance(held_out, seed)
        alarms = sum(found(random.uniform(size=500), statistics, rate, held_out) for _ in range(groups))
        over += alarms > rate * groups + 2 * np.sqrt(rate * groups)  # more than chance makes of exactly the rate
    assert over <= 0.1 * devices


def test_of_nothing_nothing_is_said() -> None:
    assert chance(np.zeros(0), KNOWN) == 1
    with pytest.raises(HeadError, match="at least 2"):
        chance(np.zeros(3), KNOWN, held_out=1)
    with pytest.raises(HeadError, match="with_quantiles"):
        chance(np.zeros(3), fit(features_of(0, 9, 0), np.zeros(9, np.int64), ["a"]), FEWEST_HELD_OUT)


# ------------------------------------------------------------------------------------------- which belong together


@pytest.mark.parametrize("n", [40, 100, 200])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_false_alarms_are_kept_out_of_the_new_category(n: int, share: float) -> None:
    wrong = round(n * share)
    members = largest_cluster(np.concatenate([features_of(11, n - wrong, 0), ALARMS[:wrong]]), KNOWN)
    assert members[: n - wrong].mean() > 0.95
    assert members[n - wrong :].sum() <= 0.1 * wrong


@pytest.mark.parametrize(("more", "fewer"), [(70, 40), (30, 20)])
def test_of_two_new_categories_the_larger_is_taken(more: int, fewer: int) -> None:
    buffer = np.concatenate([features_of(12, fewer, 0), features_of(11, more, 0), ALARMS[:20]])
    members = largest_cluster(buffer, KNOWN)
    assert members[fewer : fewer + more].mean() > 0.9
    assert members[:fewer].mean() < 0.1 and members[fewer + more :].mean() <= 0.1


@pytest.mark.parametrize("n", [4, 20, 100])
def test_a_clean_buffer_is_taken_whole(n: int) -> None:
    assert largest_cluster(features_of(11, n, 0), KNOWN).mean() > 0.95


def test_a_new_category_close_to_a_known_one_is_told_from_it() -> None:
    """As far from it as 40 % of the usual distance between two."""
    near = 0.4 * np.sqrt(features_of(11, 1000, 0)).mean(axis=0) + 0.6 * np.sqrt(features_of(2, 1000, 0)).mean(axis=0)
    noise = np.random.default_rng(5).standard_normal((40, WIDTH)) * 0.4
    new = (np.maximum(near + noise, 0) ** 2).astype(np.float32)
    members = largest_cluster(np.concatenate([new, ALARMS[:40]]), KNOWN)
    assert members[:40].sum() / members.sum() >= 0.8 and members[:40].mean() > 0.8


def test_most_of_what_lies_where_it_is_known_stays_there() -> None:
    closest = features_of(2, 200, 7)
    closest = closest[np.argsort(KNOWN.novelty(closest))][:20]
    assert largest_cluster(closest, KNOWN).mean() < 0.5


@settings(deadline=None, max_examples=30)
@given(st.integers(4, 40), st.integers(0, 1000), st.booleans())
def test_any_buffer_is_judged(n: int, seed: int, alike: bool) -> None:
    buffer = features_of(11, n, seed) if not alike else np.repeat(features_of(11, 1, seed), n, axis=0)
    members = largest_cluster(buffer, KNOWN)
    assert members.shape == (n,) and members.dtype == bool
    assert members.sum() >= 2


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 1000))
def test_the_order_of_the_buffer_does_not_matter(new: int, alarms: int, seed: int) -> None:
    buffer = np.concatenate([features_of(11, new + 4, seed), ALARMS[:alarms]])
    order = np.random.default_rng(seed).permutation(len(buffer))
    assert np.array_equal(largest_cluster(buffer[order], KNOWN), largest_cluster(buffer, KNOWN)[order])


def test_only_the_first_numbers_are_looked_at() -> None:
    buffer = np.concatenate([features_of(11, 30, 0), ALARMS[:30]])
    noise = np.random.default_rng(0)
    wider = fit(
        np.concatenate([of_the_known(150, 0), noise.uniform(size=(150 * KINDS, 40))], axis=1),
        np.repeat(np.arange(KINDS), 150),
        list(KNOWN.labels),
    )
    more = np.concatenate([buffer, noise.uniform(0, 50, (len(buffer), 40))], axis=1).astype(np.float32)
    members = largest_cluster(more, wider, WIDTH)
    assert members[:30].mean() > 0.95 and members[30:].mean() < 0.1
    assert not np.array_equal(largest_cluster(more, wider), members)


def test_a_cluster_needs_a_few_features() -> None:
    with pytest.raises(HeadError, match="at least 4"):
        largest_cluster(features_of(11, 3, 0), KNOWN)
