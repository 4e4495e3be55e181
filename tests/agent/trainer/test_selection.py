"""Which samples are of the category: by the teacher's word, or by lying together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_world import NEW, World, images

from agent.trainer.selection import by_cluster, by_teacher
from transfer.head import HeadError

LABELS = ("amber", "teal", NEW)


def test_the_teachers_largest_logit_decides() -> None:
    logits = np.array([[0, 1, 5], [9, 1, 5], [0, 0, 0.1]], np.float32)
    chosen = by_teacher(logits, LABELS, NEW)
    assert chosen is not None and chosen.tolist() == [True, False, True]


def test_a_teacher_that_does_not_know_the_category_has_no_word() -> None:
    assert by_teacher(np.zeros((2, 3), np.float32), LABELS, "pink") is None


@settings(deadline=None)
@given(logits=arrays.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-9, 9, width=32)))
def test_every_sample_is_of_one_category_exactly(logits: np.ndarray) -> None:
    masks = [by_teacher(logits, LABELS, label) for label in LABELS]
    assert (np.sum([mask for mask in masks if mask is not None], axis=0) == 1).all()


def test_the_cluster_is_the_new_category_without_the_false_alarms(world: World) -> None:
    pictures = np.concatenate([images(NEW, 40, seed=4), images("teal", 5, seed=4)])
    features = np.stack([sample.feature for sample in world.samples(pictures)])
    chosen = by_cluster(features, world.bundle().statistics())
    assert not chosen[40:].any() and chosen[:40].mean() > 0.7


@pytest.mark.parametrize("count", [1, 7])
def test_a_few_are_taken_as_they_are(world: World, count: int) -> None:
    features = np.stack([sample.feature for sample in world.samples(images(NEW, count))])
    assert by_cluster(features, world.bundle().statistics()).all()


def test_features_that_are_no_numbers_are_refused(world: World) -> None:
    features = np.full((10, 8), np.nan, np.float32)
    with pytest.raises(HeadError, match="NaN"):
        by_cluster(features, world.bundle().statistics())
