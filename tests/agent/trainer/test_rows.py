"""The last layer's rows, before and after learning."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny_world import NEW, OLD, World, images, mixed, ready

from agent.trainer import candidate, rows
from agent.trainer.inputs import UNLABELLED, Inputs, Unteachable
from agent.trainer.teacher import Taught
from transfer import bundle


@pytest.fixture
def read(world: World, tmp_path: Path) -> Inputs:
    return ready(world.job(tmp_path, images(NEW, 24, seed=4)))


def with_dormant(read: Inputs, names: tuple[str, ...]) -> Inputs:
    """The same model, with a row behind its own for each of `names`: 1s, 2s, ... and 10s, 20s, ... in the bias."""
    weights = read.model.weights()
    extra = np.arange(1, len(names) + 1, dtype=np.float32)
    weights["linear.weight"] = np.concatenate([weights["linear.weight"], np.outer(extra, np.ones(8, np.float32))])
    weights["linear.bias"] = np.concatenate([weights["linear.bias"], 10 * extra])
    old = read.model.manifest
    net = msgspec.structs.replace(old.net, classes=len(OLD) + len(names))
    manifest = msgspec.structs.replace(old, net=net, dormant=names)

    class Model:
        def __init__(self) -> None:
            self.manifest = manifest

        def weights(self) -> dict[str, np.ndarray]:
            return weights

        def statistics(self) -> object:
            return read.model.statistics()

    model: bundle.Bundle = Model()  # type: ignore[assignment]
    return dataclasses.replace(read, model=model)


def test_a_category_nobody_foresaw_begins_at_its_mean_feature(read: Inputs) -> None:
    row = rows.begun(read)["linear.weight"][len(OLD)]
    mean = read.features[read.train].mean(axis=0)
    assert np.allclose(row / np.linalg.norm(row), mean / np.linalg.norm(mean), atol=1e-5)


def test_a_dormant_category_wakes_with_the_row_it_had(read: Inputs) -> None:
    read = with_dormant(read, ("boat", NEW, "kite"))
    weights = rows.begun(read)
    assert weights["linear.weight"][len(OLD) :, 0].tolist() == [2, 1, 3]
    assert weights["linear.bias"][len(OLD) :].tolist() == [20, 10, 30]
    assert rows.dormant_left(read) == ("boat", "kite")


def test_balance_leaves_dormant_rows_alone(read: Inputs) -> None:
    read = with_dormant(read, ("boat", NEW))
    before = rows.begun(read)
    after = rows.ended(read, before, read.features, candidate.statistics(read, read.features))
    assert np.array_equal(after["linear.weight"][-1], before["linear.weight"][-1])
    assert not np.array_equal(after["linear.weight"][len(OLD)], before["linear.weight"][len(OLD)])
    assert np.array_equal(after["conv1.weight"], before["conv1.weight"])


def test_a_category_without_samples_needs_a_dormant_row(read: Inputs) -> None:
    nothing = dataclasses.replace(read, assigned=np.full_like(read.assigned, -1))
    with pytest.raises(Unteachable, match="no sample is of"):
        rows.begun(nothing)
    assert rows.begun(with_dormant(nothing, (NEW,)))["linear.bias"][len(OLD)] == 10


@pytest.fixture
def of_the_old(world: World, tmp_path: Path) -> Inputs:
    """Nothing but images of the old categories, of which nobody said what they are."""
    pictures = mixed(OLD, 20, seed=8)[0]
    return ready(world.job(tmp_path, pictures, unseen=True), [UNLABELLED] * len(pictures))


def taught(read: Inputs, column: np.ndarray, labels: tuple[str, ...] = (*OLD, NEW)) -> Taught:
    """A teacher that says half of what the model says of the old categories, and `column` of the new one."""
    weights = read.model.weights()
    known = 0.5 * (read.features @ weights["linear.weight"].T + weights["linear.bias"])
    logits = np.concatenate([known, column[:, None]], axis=1)[:, None].astype(np.float32)
    return Taught(labels, logits, {}, {})


def test_a_teacher_gives_a_row_to_a_category_of_which_there_is_nothing(of_the_old: Inputs) -> None:
    read = of_the_old
    direction = np.linspace(-1, 1, 8)
    weights = rows.begun(read, taught(read, read.features @ direction))
    assert weights["linear.weight"].shape == (4, 8) and weights["linear.weight"].dtype == np.float32
    mine = read.features @ weights["linear.weight"].T + weights["linear.bias"]
    lead = mine[:, 3] - mine[:, :3].mean(axis=1)
    told = taught(read, read.features @ direction).logits[:, 0]
    assert np.corrcoef(lead, told[:, 3] - told[:, :3].mean(axis=1))[0, 1] > 0.9
    np.testing.assert_array_equal(weights["linear.weight"][:3], read.model.weights()["linear.weight"])


def test_a_dormant_row_is_kept_whatever_the_teacher_says(of_the_old: Inputs) -> None:
    read = with_dormant(of_the_old, ("boat", NEW))
    assert rows.begun(read, taught(of_the_old, np.ones(60)))["linear.bias"][len(OLD) :].tolist() == [20, 10]


def test_a_column_that_says_nothing_or_is_of_something_else_leaves_it_unteachable(of_the_old: Inputs) -> None:
    noise = 50 * np.random.default_rng(0).standard_normal(60)
    with pytest.raises(Unteachable, match="no sample is of"):
        rows.begun(of_the_old, taught(of_the_old, noise))
    strangers = ("x", "y", "z", NEW)
    with pytest.raises(Unteachable, match="no sample is of"):
        rows.begun(of_the_old, taught(of_the_old, of_the_old.features[:, 0], strangers))


def test_without_samples_only_the_new_bias_changes_in_the_end(of_the_old: Inputs) -> None:
    read = with_dormant(of_the_old, ("boat", NEW))
    before = rows.begun(read)
    after = rows.ended(read, before, read.features, candidate.statistics(read, read.features))
    np.testing.assert_array_equal(after["linear.weight"], before["linear.weight"])
    changed = after["linear.bias"] != before["linear.bias"]
    assert changed.tolist() == [False, False, False, True, False]
