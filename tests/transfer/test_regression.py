from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.head import fit
from transfer.regression import PULL, rebalanced, regressed

WIDTH = 12


def features_of(kind: int, n: int, seed: int) -> np.ndarray:
    centre = np.random.default_rng(kind).uniform(0.2, 2, WIDTH)
    return np.maximum(centre + 0.4 * np.random.default_rng([kind, seed]).standard_normal((n, WIDTH)), 0)


def objective(weight: np.ndarray, bias: np.ndarray, start: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    logits = x @ weight.T + bias
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    each = [-log_p[y == k, k].mean() for k in np.unique(y)]
    gap = np.concatenate([weight, bias[:, None]], axis=1) - start
    return float(np.mean(each) + PULL * np.square(gap).sum())


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.lists(st.integers(3, 60), min_size=2, max_size=4))
def test_no_small_change_makes_it_better(seed: int, counts: list[int]) -> None:
    """It is the minimum: every category weighs the same however many features it has."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([features_of(kind, n, seed) for kind, n in enumerate(counts)])
    y = np.repeat(np.arange(len(counts)), counts)
    start = rng.standard_normal((len(counts), WIDTH + 1)) * 0.3
    weight, bias = regressed(start[:, :-1], start[:, -1], x, y)
    best = objective(weight, bias, start, x, y)
    assert best <= objective(start[:, :-1], start[:, -1], start, x, y) + 1e-6
    for _ in range(5):
        nudge = rng.standard_normal(start.shape) * 0.03
        assert best <= objective(weight + nudge[:, :-1], bias + nudge[:, -1], start, x, y) + 1e-4


def test_the_new_row_is_learned_and_the_old_categories_stay() -> None:
    labels = [f"c{kind}" for kind in range(4)]
    x, y = np.concatenate([features_of(k, 200, 0) for k in range(4)]), np.repeat(np.arange(4), 200)
    old = fit(x, y, labels)
    weight, bias = regressed(np.zeros((4, WIDTH)), np.zeros(4), x, y)
    new = features_of(9, 30, 0)
    weight = np.concatenate([weight, new[:1] * 0.01, np.full((1, WIDTH), 7.0)])  # the last row is a dormant one
    bias = np.append(bias, [0, 7])
    after, after_bias = rebalanced(weight, bias, old, new, np.full(len(new), 4), seed=1)
    assert np.array_equal(after[5], weight[5]) and after_bias[5] == 7
    for kind, row in ((0, 0), (1, 1), (2, 2), (3, 3), (9, 4)):
        logits = features_of(kind, 100, 5) @ after[:5].T + after_bias[:5]
        assert (logits.argmax(axis=1) == row).mean() > 0.93
    again = rebalanced(weight, bias, old, new, np.full(len(new), 4), seed=1)
    assert np.array_equal(again[0], after)
