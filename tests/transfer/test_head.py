from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from transfer.head import ClassStatistics, HeadError, append_row, decide, fit, from_arrays

WIDTH = 32


def features_of(kind: int, n: int, seed: int) -> np.ndarray:
    centre = np.random.default_rng(kind).uniform(0.5, 2, WIDTH)
    return (np.maximum(centre + np.random.default_rng([kind, seed]).standard_normal((n, WIDTH)) * 0.4, 0) ** 2).astype(
        np.float32
    )


def known(categories: int = 6) -> ClassStatistics:
    features = np.concatenate([features_of(kind, 150, 0) for kind in range(categories)])
    statistics = fit(features, np.repeat(np.arange(categories), 150), [f"c{kind}" for kind in range(categories)])
    return statistics.with_quantiles(np.concatenate([features_of(kind, 150, 1) for kind in range(categories)]))


KNOWN = known()


def test_statistics_survive_a_file() -> None:
    arrays = safetensors.numpy.load(safetensors.numpy.save(KNOWN.to_arrays()))
    back = from_arrays(arrays, KNOWN.labels)
    features = features_of(1, 20, 2)
    assert np.array_equal(back.log_density(features), KNOWN.log_density(features))
    assert back.threshold(0.05) == KNOWN.threshold(0.05)
    assert (back.power, back.shrink, back.labels) == (0.5, 0.6, KNOWN.labels)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("means", np.zeros((5, WIDTH), np.float32), "means"),
        ("means", np.full((6, WIDTH), np.inf, np.float32), "finite"),
        ("means", np.zeros((6, WIDTH), np.float64), "float32"),
        ("means", np.zeros((6, 5000), np.float32), r"1\.\.4096"),
        ("covariances", np.zeros((6, WIDTH, 3), np.float32), "covariances"),
        ("covariances", np.broadcast_to(-np.eye(WIDTH, dtype=np.float32), (6, WIDTH, WIDTH)), "positive definite"),
        ("counts", np.ones(6, np.int64), "at least 2"),
        ("novelty_quantiles", np.zeros(7, np.float32), "101"),
        ("novelty_quantiles", np.arange(101, 0, -1, dtype=np.float32), "ascending"),
        ("power", np.array([0.0]), "power"),
        ("power", np.array([0.5, 0.5]), "single"),
        ("shrink", np.array([1.5]), "shrink"),
        ("shrink", np.array([np.nan]), "finite"),
        ("surplus", np.zeros(1), "surplus"),
    ],
)
def test_damaged_statistics_are_refused(name: str, value: np.ndarray, complaint: str) -> None:
    with pytest.raises(HeadError, match=complaint):
        from_arrays(KNOWN.to_arrays() | {name: value}, KNOWN.labels)


def test_labels_must_fit() -> None:
    with pytest.raises(HeadError, match="means"):
        from_arrays(KNOWN.to_arrays(), ["just one"])
    with pytest.raises(HeadError, match="different"):
        from_arrays(KNOWN.to_arrays(), ["same"] * 6)


def test_fit_wants_two_samples_of_each() -> None:
    with pytest.raises(HeadError, match="at least 2"):
        fit(features_of(0, 10, 0), np.zeros(10, np.int64), ["here", "nowhere"])
    with pytest.raises(HeadError, match="belong together"):
        fit(features_of(0, 10, 0), np.zeros(9, np.int64), ["a"])


def test_the_new_row_is_as_long_as_the_others_and_points_to_its_category() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((9, WIDTH)).astype(np.float32), rng.standard_normal(9).astype(np.float32)
    mean = features_of(11, 50, 0).mean(axis=0)
    grown, grown_bias = append_row(weight, bias, mean)
    assert grown.shape == (10, WIDTH) and grown.dtype == grown_bias.dtype == np.float32
    assert np.array_equal(grown[:9], weight) and np.array_equal(grown_bias[:9], bias)
    assert np.linalg.norm(grown[9]) == pytest.approx(np.linalg.norm(weight, axis=1).mean(), rel=1e-5)
    assert grown[9] @ mean == pytest.approx(np.linalg.norm(grown[9]) * np.linalg.norm(mean), rel=1e-5)
    assert grown_bias[9] == pytest.approx(bias.mean(), rel=1e-5)


def test_a_category_the_network_does_not_see_has_no_row() -> None:
    with pytest.raises(HeadError, match="zero"):
        append_row(np.ones((2, 3)), np.ones(2), np.zeros(3))


def test_decisions_by_logits_gaussians_and_both() -> None:
    rng = np.random.default_rng(5)
    features = np.concatenate([rng.uniform(0, 1, (60, 6)), rng.uniform(2, 4, (60, 6))]).astype(np.float32)
    statistics = fit(features, np.repeat([0, 1], 60), ("low", "high"))
    logits = np.tile(np.float32([[0.0, 2.0, 99.0]]), (120, 1))  # a third, wider logit is none of the labels
    by_logits = decide("logits", statistics, logits, features)
    assert by_logits.shape == (120, 2) and (by_logits.argmax(axis=1) == 1).all()
    assert np.allclose(decide("gaussian", statistics, logits, features), statistics.posterior(features))
    fused = decide("fused", statistics, logits, features)
    assert np.array_equal(fused, decide("fused", statistics, logits, features, statistics.distances(features)))
    assert np.allclose(fused.sum(axis=1), 1, atol=1e-5)
    wanted = statistics.posterior(features).astype(np.float64) * by_logits**0.5
    assert np.allclose(fused, wanted / wanted.sum(axis=1, keepdims=True), atol=1e-4)
    # Certain Gaussians outvote the logits; it takes both to be sure.
    assert (fused.argmax(axis=1) == np.repeat([0, 1], 60)).all()


def test_a_decision_never_divides_by_nothing() -> None:
    statistics = fit(np.eye(4, dtype=np.float32).repeat(5, axis=0), np.repeat(np.arange(4), 5), tuple("abcd"))
    far = np.full((2, 4), 1e6, np.float32)
    logits = np.float32([[1e4, -1e4, 0, 0], [0, 0, 0, 0]])
    for decision in ("logits", "gaussian", "fused"):
        probability = decide(decision, statistics, logits, far)  # type: ignore[arg-type]
        assert np.isfinite(probability).all() and np.allclose(probability.sum(axis=1), 1, atol=1e-5)
