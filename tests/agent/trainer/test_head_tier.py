"""The head tier: a new Gaussian and a new row, everything else untouched, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_world import NEW, OLD, World, images, mixed, ready

from agent.adapters.inference import Classifier
from agent.trainer import head_tier, inputs
from transfer import bundle


@pytest.fixture
def learned(world: World, tmp_path: Path) -> tuple[inputs.Inputs, bundle.Bundle]:
    read = ready(world.job(tmp_path, images(NEW, 40, seed=4)))
    head_tier.learn(read)
    return read, bundle.load(read.folder / "candidate", trusted=None)


def test_no_weight_but_the_last_layers_changes_and_its_old_rows_hardly(
    learned: tuple[inputs.Inputs, bundle.Bundle],
) -> None:
    read, made = learned
    before, after = read.model.weights(), made.weights()
    for name, array in before.items():
        if name.startswith("linear"):
            assert np.linalg.norm(after[name][: len(OLD)] - array) < 0.5 * np.linalg.norm(array)
        else:
            np.testing.assert_array_equal(after[name], array)
    assert after["linear.weight"].shape == (4, 8) and after["linear.bias"].shape == (4,)


def test_no_old_category_changes_and_the_new_one_is_what_was_chosen(
    learned: tuple[inputs.Inputs, bundle.Bundle],
) -> None:
    read, made = learned
    before, after = read.model.statistics(), made.statistics()
    np.testing.assert_array_equal(after.means[:3], before.means)
    np.testing.assert_array_equal(after.covariances[:3], before.covariances)
    assert (after.power, after.shrink) == (before.power, before.shrink)
    assert after.counts[3] == read.train.sum() == 30
    np.testing.assert_allclose(after.means[3], np.sqrt(read.features[read.train]).mean(axis=0), rtol=1e-4)


def test_it_serves_old_and_new(learned: tuple[inputs.Inputs, bundle.Bundle]) -> None:
    classifier = Classifier(learned[1], 2)
    labels = (*OLD, NEW)
    pictures, truth = mixed(labels, 25, seed=33)
    verdicts = classifier.classify(pictures)
    right = np.array([v.label == labels[t] for v, t in zip(verdicts, truth, strict=True)])
    assert all(right[truth == k].mean() >= 0.9 for k in range(4))
    assert np.mean([v.novel for v in verdicts]) < 0.3  # the new category is no longer novel


def test_two_categories_one_after_the_other(world: World, tmp_path: Path) -> None:
    """The candidate is itself a model that can be extended: decision, rows and statistics stay in one order."""
    first = ready(world.job(tmp_path / "a", images(NEW, 24, seed=4)))
    head_tier.learn(first)
    second = world.job(tmp_path / "b", images("teal", 24, seed=4), categories=("teal again",))
    (second / "model").rename(second / "earlier")
    (first.folder / "candidate").rename(second / "model")
    read = ready(second)
    head_tier.learn(read)
    made = bundle.load(second / "candidate", trusted=None)
    assert made.manifest.labels == (*OLD, NEW, "teal again") == made.statistics().labels
    assert made.manifest.net.classes == 5 and made.manifest.parent == read.model.digest


def test_two_categories_at_once_and_a_known_one_that_was_labelled(world: World, tmp_path: Path) -> None:
    pictures = np.concatenate([images(NEW, 24, seed=4), 255 - images(NEW, 24, seed=4), images("teal", 12, seed=4)])
    teal = OLD.index("teal")
    job = world.job(tmp_path, pictures, categories=(NEW, "violet"))
    read = ready(job, [3] * 24 + [4] * 24 + [teal] * 12)
    head_tier.learn(read)
    made = bundle.load(job / "candidate", trusted=None)
    assert made.manifest.labels == (*OLD, NEW, "violet") and made.manifest.net.classes == 5
    before, after = read.model.statistics(), made.statistics()
    np.testing.assert_array_equal(after.counts, [60, 72, 60, 18, 18])
    np.testing.assert_array_equal(after.means[[0, 2]], before.means[[0, 2]])
    gained = np.sqrt(read.features[48:]).mean(axis=0)
    np.testing.assert_allclose(after.means[teal], (before.means[teal] * 60 + gained * 12) / 72, rtol=1e-4)
    said = Classifier(made, 2).classify(pictures)
    truth = [NEW] * 24 + ["violet"] * 24 + ["teal"] * 12
    assert np.mean([verdict.label == label for verdict, label in zip(said, truth, strict=True)]) >= 0.9


def test_an_image_that_the_network_does_not_see_makes_no_category(world: World, tmp_path: Path) -> None:
    read = ready(world.job(tmp_path, images(NEW, 8)))
    read.features[:] = 0
    with pytest.raises(inputs.Unteachable, match="the network does not see it"):
        head_tier.learn(read)
    assert not (read.folder / "candidate").exists()
