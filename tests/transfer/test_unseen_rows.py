"""Where a category of which only the row is known lies, and how loud its row must be. The world: Gaussians of one
covariance, whose best rows are known in closed form, so the truth about the one left out is known, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.head import ClassStatistics, fit
from transfer.unseen_rows import EXPECTED_COUNT, FEWEST_TO_FIT, expected, fitted, levelled, with_expected

WIDTH, CATEGORIES = 12, 6
NEW = CATEGORIES - 1
CENTRES = 10 + 1.5 * np.random.default_rng(0).standard_normal((CATEGORIES, WIDTH))
SPREAD = np.diag(np.random.default_rng(1).uniform(0.5, 1.5, WIDTH))


def features(kind: int, count: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng([kind, seed]).standard_normal((count, WIDTH))
    return (CENTRES[kind] + noise @ SPREAD).astype(np.float32)


def fitted_to(power: float) -> ClassStatistics:
    everything = np.concatenate([features(kind, 300, 0) for kind in range(NEW)])
    return fit(everything, np.repeat(np.arange(NEW), 300), [f"c{kind}" for kind in range(NEW)], power=power)


KNOWN = {power: fitted_to(power) for power in (1.0, 0.5)}
INVERSE = np.linalg.inv(SPREAD @ SPREAD)
ROWS = CENTRES @ INVERSE
OFFSETS = -0.5 * np.einsum("kd,kd->k", ROWS, CENTRES)


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("loudness", [1.0, 3.0])
def test_a_row_says_where_its_category_lies(power: float, loudness: float) -> None:
    """Whatever the rows' scale: the known categories say what it means."""
    rows = loudness * ROWS
    mean, covariance = expected(KNOWN[power], rows[:NEW], rows[NEW])
    truth = features(NEW, 300, 0).astype(np.float64) ** power
    middle = KNOWN[power].means.mean(axis=0)
    assert np.linalg.norm(mean - truth.mean(axis=0)) < 0.25 * np.linalg.norm(middle - truth.mean(axis=0))
    assert np.trace(covariance) == pytest.approx(np.trace(np.cov(truth, rowvar=False)), rel=0.2)


def test_what_is_expected_is_told_from_the_known_by_its_gaussian() -> None:
    grown = with_expected(KNOWN[1.0], ROWS[:NEW], "new", ROWS[NEW])
    assert grown.labels == (*KNOWN[1.0].labels, "new") and grown.counts[NEW] == EXPECTED_COUNT
    np.testing.assert_array_equal(grown.means[:NEW], KNOWN[1.0].means)
    for kind in range(CATEGORIES):
        assert (grown.log_density(features(kind, 100, 1)).argmax(axis=1) == kind).mean() > 0.9


def test_the_first_real_samples_outweigh_what_was_expected() -> None:
    grown = with_expected(KNOWN[1.0], ROWS[:NEW], "new", 0.5 * ROWS[NEW]).merge("new", features(NEW, 40, 2))
    assert np.linalg.norm(grown.means[NEW] - CENTRES[NEW]) < 0.2 * np.linalg.norm(CENTRES.mean(axis=0) - CENTRES[NEW])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(-3, 3), st.integers(1, 4))
def test_any_row_gives_a_finite_place_and_bias(seed: int, scale: float, known: int) -> None:
    """Rows that have nothing to do with the categories, too, and a model of one category."""
    labels = KNOWN[0.5].labels[:known]
    few = replace(
        KNOWN[0.5],
        labels=labels,
        means=KNOWN[0.5].means[:known],
        covariances=KNOWN[0.5].covariances[:known],
        counts=KNOWN[0.5].counts[:known],
    )
    rows = 10**scale * np.random.default_rng(seed).standard_normal((known + 1, WIDTH))
    mean, _ = expected(few, rows[:-1], rows[-1])
    assert np.isfinite(mean).all() and (mean >= 0).all()
    if known > 1:
        assert np.isfinite(levelled(few, rows[:-1], np.zeros(known), rows[-1], 0.0, seed))


@pytest.mark.parametrize("lean", [-8.0, 0.0, 8.0])
def test_a_row_becomes_as_loud_as_the_others_however_loud_it_was(lean: float) -> None:
    bias = levelled(KNOWN[1.0], ROWS[:NEW], OFFSETS[:NEW], ROWS[NEW], OFFSETS[NEW] + lean, 0)
    rights = []
    for kind in range(CATEGORIES):
        logits = features(kind, 300, 3) @ ROWS.T + np.append(OFFSETS[:NEW], bias)
        rights.append((logits.argmax(axis=1) == kind).mean())
    assert min(rights) > 0.9
    assert bias == pytest.approx(levelled(KNOWN[1.0], ROWS[:NEW], OFFSETS[:NEW], ROWS[NEW], OFFSETS[NEW], 0), abs=1e-3)


def test_where_nothing_overlaps_a_row_leads_as_the_others_do_and_no_more() -> None:
    """Rows twenty times as loud: the nearest pseudo-feature of another category is far away in logits."""
    rows, offsets = 20 * ROWS, 20 * OFFSETS
    bias = levelled(KNOWN[1.0], rows[:NEW], offsets[:NEW], rows[NEW], offsets[NEW] - 1e4, 0)
    leads = []
    for kind in range(CATEGORIES):
        logits = CENTRES[kind] @ rows.T + np.append(offsets[:NEW], bias)
        leads.append(logits[kind] - np.delete(logits, kind).max())
    assert 0 < leads[NEW] < 1.5 * np.mean(leads[:NEW])


def answers(pictures: np.ndarray) -> np.ndarray:
    """A teacher's logits: those of the true rows on another scale, with a shift of its own for every image."""
    return 0.25 * (pictures @ ROWS.T + OFFSETS) + pictures[:, :1]


def test_a_teachers_column_becomes_a_row_by_pictures_of_other_things() -> None:
    pictures = np.concatenate([features(kind, 40, 4) for kind in range(NEW)])[np.random.default_rng(5).permutation(200)]
    said = answers(pictures)
    found = fitted(ROWS[:NEW], OFFSETS[:NEW], pictures, said[:, :NEW], said[:, NEW])
    assert found is not None
    rows, offsets = np.concatenate([ROWS[:NEW], found[0][None]]), np.append(OFFSETS[:NEW], found[1])
    for kind in range(CATEGORIES):
        assert ((features(kind, 100, 6) @ rows.T + offsets).argmax(axis=1) == kind).mean() > 0.9


def test_a_column_that_the_features_say_nothing_of_makes_no_row() -> None:
    pictures = np.concatenate([features(kind, 20, 4) for kind in range(NEW)])
    said = answers(pictures)
    noise = 10 * np.random.default_rng(0).standard_normal(len(pictures))
    assert fitted(ROWS[:NEW], OFFSETS[:NEW], pictures, said[:, :NEW], said[:, :NEW].mean(axis=1) + noise) is None


def test_too_few_pictures_or_one_known_column_make_no_row() -> None:
    pictures = features(0, FEWEST_TO_FIT - 1, 4)
    said = answers(pictures)
    assert fitted(ROWS[:NEW], OFFSETS[:NEW], pictures, said[:, :NEW], said[:, NEW]) is None
    pictures = features(0, 60, 4)
    said = answers(pictures)
    assert fitted(ROWS[:1], OFFSETS[:1], pictures, said[:, :1], said[:, NEW]) is None
