from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.class_statistics import RIDGE, ClassStatistics, HeadError
from transfer.head import fit, from_arrays

WIDTH = 24


def features_of(kind: int, n: int, seed: int) -> np.ndarray:
    """Features like those of a pooled ReLU map: never negative, skewed, correlated, their root about Gaussian."""
    shape = np.random.default_rng(kind)
    centre, mix = shape.uniform(0.5, 2.5, WIDTH), shape.standard_normal((WIDTH, WIDTH)) * 0.06
    noise = np.random.default_rng([kind, seed]).standard_normal((n, WIDTH))
    return (np.maximum(centre + noise @ mix + noise * 0.15, 0) ** 2).astype(np.float32)


def dataset(kinds: range, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([features_of(kind, n, seed) for kind in kinds]), np.repeat(np.arange(len(kinds)), n)


def known(kinds: range = range(5), n: int = 200, shrink: float = 0.6) -> ClassStatistics:
    return fit(*dataset(kinds, n, 0), [f"c{kind}" for kind in kinds], shrink=shrink)


def test_categories_are_told_apart() -> None:
    features, targets = dataset(range(5), 100, 1)
    statistics = known()
    assert (statistics.log_density(features).argmax(axis=1) == targets).mean() > 0.97
    posterior = statistics.posterior(features)
    assert np.allclose(posterior.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(posterior.argmax(axis=1), statistics.log_density(features).argmax(axis=1))


def test_log_density_is_that_of_the_gaussian() -> None:
    statistics = known(range(2), n=100)
    features = features_of(0, 50, 1)
    own = (1 - 0.6) * 100 / (100 + WIDTH)  # as much of the category's own covariance as its count deserves
    pooled = statistics.covariances.astype(np.float64).mean(axis=0)
    pooled += RIDGE * np.trace(pooled) / WIDTH * np.eye(WIDTH)
    for index in range(2):
        covariance = own * statistics.covariances[index] + (1 - own) * pooled
        gap = np.sqrt(features) - statistics.means[index]
        expected = -0.5 * np.einsum("nd,de,ne->n", gap, np.linalg.inv(covariance), gap)
        expected -= 0.5 * np.linalg.slogdet(covariance)[1]
        assert statistics.log_density(features)[:, index] == pytest.approx(expected, rel=1e-3, abs=1e-2)


def test_a_category_is_learned_from_a_few_samples_and_forgets_nothing() -> None:
    before = known(range(4))
    features, targets = dataset(range(5), 200, 1)
    after = before.with_class("c4", features_of(4, 20, 2))
    right = after.log_density(features).argmax(axis=1) == targets
    assert right[targets == 4].mean() > 0.95
    assert right[targets < 4].mean() > 0.97
    assert after.labels == ("c0", "c1", "c2", "c3", "c4")
    assert np.array_equal(after.means[:4], before.means)
    assert before.labels == ("c0", "c1", "c2", "c3")


def test_a_category_of_the_same_name_is_replaced_in_its_place() -> None:
    before = known(range(3))
    after = before.with_class("c1", features_of(7, 50, 0))
    assert after.labels == before.labels
    assert after.counts.tolist() == [200, 50, 200]
    assert np.allclose(after.means[1], np.sqrt(features_of(7, 50, 0)).mean(axis=0), atol=1e-5)
    assert np.array_equal(after.covariances[[0, 2]], before.covariances[[0, 2]])


@given(st.integers(2, 60), st.integers(0, 60), st.integers(0, 100))
@settings(deadline=None, max_examples=30)
def test_merging_equals_fitting_everything_at_once(first: int, second: int, seed: int) -> None:
    features = features_of(2, first + second, seed)
    base = known(range(2))
    merged = base.with_class("new", features[:first]).merge("new", features[first:])
    whole = base.with_class("new", features)
    assert merged.counts.tolist() == whole.counts.tolist()
    assert np.allclose(merged.means, whole.means, atol=1e-5)
    assert np.allclose(merged.covariances, whole.covariances, atol=1e-5)


def test_what_is_new_scores_higher_and_the_scale_says_how_rare_that_is() -> None:
    statistics = known().with_quantiles(dataset(range(5), 200, 1)[0])
    old, new = statistics.novelty(dataset(range(5), 200, 2)[0]), statistics.novelty(features_of(9, 200, 0))
    assert (new[:, None] > old[None, :]).mean() > 0.98
    threshold = statistics.threshold(0.05)
    assert 0.02 < (old > threshold).mean() < 0.09
    assert statistics.false_alarm(threshold) == pytest.approx(0.05, abs=1e-4)
    assert statistics.false_alarm(float(statistics.novelty_quantiles[0]) - 1) == 1
    assert statistics.false_alarm(float(statistics.novelty_quantiles[-1]) + 1) == 0
    assert statistics.threshold(0.01) >= statistics.threshold(0.1)
    # Learning the category makes it familiar.
    assert (statistics.with_class("c9", features_of(9, 50, 3)).novelty(features_of(9, 100, 4)) > threshold).mean() < 0.3


def test_scores_do_not_depend_on_the_company() -> None:
    statistics, features = known(), dataset(range(5), 40, 3)[0]
    together = statistics.novelty(features)
    assert np.allclose(together[:10], [float(statistics.novelty(row[None])[0]) for row in features[:10]], rtol=1e-4)
    assert statistics.novelty(features[:0]).shape == (0,)


def test_distances_that_are_at_hand_need_not_be_worked_out_again() -> None:
    features = dataset(range(5), 20, 4)[0]
    statistics = known().with_quantiles(features)
    distances = statistics.distances(features)
    assert np.array_equal(statistics.novelty(features, distances), statistics.novelty(features))
    assert np.array_equal(statistics.posterior(features, distances), statistics.posterior(features))
    assert not np.array_equal(statistics.posterior(features, distances[::-1]), statistics.posterior(features))


def test_pseudo_features_stand_in_for_real_ones() -> None:
    statistics = known()
    drawn = statistics.sample("c3", 2000, seed=1)
    real = features_of(3, 2000, 5)
    assert drawn.min() >= 0
    assert drawn.dtype == np.float32
    assert np.allclose(np.sqrt(drawn).mean(axis=0), np.sqrt(real).mean(axis=0), atol=0.05)
    assert (statistics.log_density(drawn).argmax(axis=1) == 3).mean() > 0.97
    assert np.array_equal(drawn, statistics.sample(3, 2000, seed=1))
    assert not np.array_equal(drawn, statistics.sample(3, 2000, seed=2))
    # Of its own covariance, not of the one shrunk towards all categories'.
    own = statistics.covariances[3].ravel()
    assert np.corrcoef(np.cov(np.sqrt(drawn), rowvar=False).ravel(), own)[0, 1] > 0.98


def test_dormant_logits_see_what_lies_close_to_a_known_category() -> None:
    """A new category inside the cloud of a known one, told apart by the logit of a category the teacher knows."""
    plain, held = known().with_quantiles(dataset(range(5), 200, 1)[0]), dataset(range(5), 200, 2)[0]
    rng = np.random.default_rng(3)
    near = features_of(2, 200, 7)
    direction = rng.standard_normal(WIDTH).astype(np.float32)
    weight = rng.standard_normal((6, WIDTH)).astype(np.float32) * 0.01
    weight[5] = 20 * direction / np.linalg.norm(direction)
    shifted = np.maximum(near + 0.3 * weight[5] / 20, 0).astype(np.float32)
    bias = np.zeros(6, np.float32)
    bias[5] = -float((held @ weight[5]).max())
    awake = known().with_readout(weight, bias).with_quantiles(dataset(range(5), 200, 1)[0])

    def seen(statistics: ClassStatistics) -> float:
        return float((statistics.novelty(shifted)[:, None] > statistics.novelty(held)[None, :]).mean())

    assert seen(awake) > seen(plain) + 0.02
    assert awake.with_class("c9", near).readout.shape == (0, 0)  # until it is given one that has the new row
    again = from_arrays(awake.to_arrays(), awake.labels)
    assert np.array_equal(again.novelty(held), awake.novelty(held))


def test_a_readout_without_dormant_rows_says_nothing_new() -> None:
    statistics = known().with_readout(np.ones((5, WIDTH)), np.ones(5))
    assert statistics.readout.shape == (0, 0)
    with pytest.raises(HeadError, match="no readout"):
        statistics.with_readout(np.ones((4, WIDTH)), np.ones(4))


@pytest.mark.parametrize("dormant", [0, 1])
def test_novelty_is_judged_by_what_the_logits_are_made_of(dormant: int) -> None:
    """Whatever else a feature holds decides between categories, and says nothing of what is new."""
    features, targets = dataset(range(5), 60, 0)
    more = np.random.default_rng(0).uniform(size=(len(features), 7)).astype(np.float32)
    labels, weight = known().labels, np.ones((5 + dormant, WIDTH), np.float32)
    alone = fit(features, targets, labels).with_readout(weight, np.ones(len(weight))).with_quantiles(features)
    wider = fit(np.concatenate([features, more], axis=1), targets, labels)
    wider = wider.with_readout(weight, np.ones(len(weight)))
    wider = wider.with_quantiles(np.concatenate([features, more], axis=1))
    asked = features_of(9, 20, 1)
    said = wider.novelty(np.concatenate([asked, np.full((20, 7), 50)], axis=1).astype(np.float32))
    np.testing.assert_allclose(said, alone.novelty(asked), rtol=1e-4)
    again = from_arrays(wider.to_arrays(), labels)
    assert again.threshold(0.05) == wider.threshold(0.05) and len(again.readout) == 5 + dormant


def test_a_feature_that_never_fires_is_no_trouble() -> None:
    features, targets = dataset(range(3), 50, 0)
    features[:, 4] = 0
    statistics = fit(features, targets, ["a", "b", "c"])
    assert np.isfinite(statistics.log_density(features)).all()
    assert (statistics.log_density(features).argmax(axis=1) == targets).mean() > 0.95


def test_clear_errors() -> None:
    statistics = known(range(2))
    with pytest.raises(HeadError, match="at least 2"):
        statistics.with_class("new", features_of(3, 1, 0))
    with pytest.raises(HeadError, match="NaN"):
        statistics.novelty(np.full((1, WIDTH), np.nan, np.float32))
    with pytest.raises(HeadError, match=r"\(3, 5\)"):
        statistics.novelty(np.zeros((3, 5), np.float32))
    with pytest.raises(HeadError, match="no category 'dog'"):
        statistics.sample("dog", 1, 0)
    with pytest.raises(HeadError, match="with_quantiles"):
        statistics.threshold(0.05)
    with pytest.raises(HeadError, match="too few"):
        statistics.with_quantiles(features_of(0, 1, 0))
