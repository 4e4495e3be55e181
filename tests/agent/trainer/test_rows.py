"""The last layer's rows, before and after learning."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny_world import NEW, OLD, World, images, ready

from agent.trainer import rows
from agent.trainer.inputs import Inputs, Unteachable
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
    after = rows.ended(read, before, read.features)
    assert np.array_equal(after["linear.weight"][-1], before["linear.weight"][-1])
    assert not np.array_equal(after["linear.weight"][len(OLD)], before["linear.weight"][len(OLD)])
    assert np.array_equal(after["conv1.weight"], before["conv1.weight"])


def test_a_category_without_samples_needs_a_dormant_row(read: Inputs) -> None:
    nothing = dataclasses.replace(read, assigned=np.full_like(read.assigned, -1))
    with pytest.raises(Unteachable, match="no sample is of"):
        rows.begun(nothing)
    assert rows.begun(with_dormant(nothing, (NEW,)))["linear.bias"][len(OLD)] == 10
