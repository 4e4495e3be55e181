"""A candidate is a whole bundle that computes what its network does, or there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from tiny_world import INPUT, NEW, OLD, World, images, ready

from agent.job import read_job, write_job
from agent.trainer import candidate, inputs
from agent.trainer.__main__ import run
from agent.trainer.inputs import Inputs
from transfer import bundle, preprocess, tflite
from transfer.graph import Dense, Graph, network_graph
from transfer.head import ClassStatistics
from transfer.networks import build
from transfer.tflite import MismatchError

Parts = tuple[Inputs, dict[str, np.ndarray], ClassStatistics]


@pytest.fixture
def job(world: World, tmp_path: Path) -> Path:
    return world.job(tmp_path, images(NEW, 24))


@pytest.fixture
def parts(job: Path) -> Parts:
    """A job, weights with a fourth row, and statistics that know the new category."""
    read = ready(job)
    weights = read.model.weights()
    weights["linear.weight"] = np.concatenate([weights["linear.weight"], np.ones((1, 8), np.float32)])
    weights["linear.bias"] = np.append(weights["linear.bias"], np.float32(0.5))
    return read, weights, read.model.statistics().with_class(NEW, read.features)


def by_torch(read: Inputs, weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    pictures = preprocess.normalise(candidate.probes(read), INPUT).transpose(0, 3, 1, 2)
    with torch.no_grad():
        out = build(candidate.grown(read), weights)(torch.from_numpy(np.ascontiguousarray(pictures)))
    return out.logits.numpy(), out.feature.numpy()


def perturbed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Graph]:
    """network_graph, but the classifier's weights are not those of the network."""

    def graph(*arguments: Any) -> Graph:
        made = network_graph(*arguments)
        operations = tuple(
            dataclasses.replace(op, weight=change(op.weight)) if isinstance(op, Dense) else op for op in made.operations
        )
        return dataclasses.replace(made, operations=operations)

    return graph


def test_the_network_grows_by_one_class(job: Path) -> None:
    read = inputs.read(job)
    assert candidate.grown(read).classes == 4
    assert msgspec.structs.replace(candidate.grown(read), classes=3) == read.model.manifest.net
    assert len(candidate.probes(read)) == candidate.PROBES


def test_it_is_a_whole_bundle_that_says_where_it_is_from(world: World, job: Path, parts: Parts) -> None:
    read, weights, statistics = parts
    candidate.write(read, weights, statistics, by_torch(read, weights))
    made = bundle.load(job / "candidate", trusted=None)
    assert made.manifest.labels == (*OLD, NEW) and made.manifest.decision == "fused"
    assert made.manifest.parent == read.model.digest and made.manifest.teacher == world.digest_of_teacher
    assert made.manifest.pairs == read.model.manifest.pairs and "job-000001" in made.manifest.made_by
    assert made.statistics().labels == (*OLD, NEW)
    for name, array in made.weights().items():
        np.testing.assert_array_equal(array, weights[name])
    assert not (job / "candidate" / bundle.SIGNATURE).exists()


def test_what_judges_it_is_what_the_next_round_must_not_forget(job: Path, parts: Parts) -> None:
    read, weights, statistics = parts
    candidate.write(read, weights, statistics, by_torch(read, weights))
    made, former = bundle.load(job / "candidate", trusted=None).holdout(), read.model.holdout()
    assert made is not None and former is not None
    np.testing.assert_array_equal(made[0], np.concatenate([former[0], read.images[~read.train]]))
    np.testing.assert_array_equal(made[1], np.concatenate([former[1], [3] * 6]))


def test_a_bundle_that_came_without_held_out_images_gets_those_of_the_new_category(
    world: World, job: Path, tmp_path: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, weights, statistics = parts
    student = world.bundle()
    files = {name: student.read(name) for name in student.manifest.files if name != bundle.HOLDOUT}
    bundle.save(tmp_path / "without", student.manifest, files, world.key)
    read = dataclasses.replace(read, model=bundle.load(tmp_path / "without", trusted=None))
    monkeypatch.setattr(candidate, "HOLDOUT_PER_CATEGORY", 4)
    candidate.write(read, weights, statistics, by_torch(read, weights))
    made = bundle.load(job / "candidate", trusted=None).holdout()
    assert made is not None and made[1].tolist() == [3] * 4  # of six that were held out


def test_statistics_grow_with_what_was_assigned(world: World, tmp_path: Path) -> None:
    job = world.job(tmp_path, np.concatenate([images(NEW, 8), images("teal", 8)]), given=("",) * 8 + ("teal",) * 8)
    read = ready(job, [3] * 8 + [1] * 8)
    grown = candidate.statistics(read, read.features)
    assert grown.labels == (*OLD, NEW) and grown.counts.tolist() == [60, 68, 60, 6]


def test_a_new_category_is_known_from_mirrored_images_too_and_they_are_no_samples(world: World, tmp_path: Path) -> None:
    job = world.job(tmp_path, np.concatenate([images(NEW, 8), images("teal", 8)]), given=("",) * 8 + ("teal",) * 8)
    read = ready(job, [3] * 8 + [1] * 8)
    alone, both = (candidate.statistics(read, read.features, twins) for twins in (None, read.features * 0.5))
    assert both.counts.tolist() == alone.counts.tolist()
    np.testing.assert_array_equal(both.means[:3], alone.means[:3])
    mine = read.features[read.of(3)].astype(np.float64)
    powered = np.concatenate([mine, mine * 0.5]) ** both.power
    np.testing.assert_allclose(both.means[3], powered.mean(axis=0), rtol=1e-5)


def test_the_same_candidate_again_is_the_same_bytes(job: Path, parts: Parts) -> None:
    read, weights, statistics = parts
    digests = []
    for _ in range(2):
        candidate.write(read, weights, statistics, by_torch(read, weights))
        digests.append(bundle.load(job / "candidate", trusted=None).digest)
    assert digests[0] == digests[1]


def test_weights_of_any_memory_layout_are_saved_as_they_are(job: Path, parts: Parts) -> None:
    read, weights, statistics = parts
    turned = {name: np.asfortranarray(array) for name, array in weights.items()}
    candidate.write(read, turned, statistics, by_torch(read, weights))
    for name, array in bundle.load(job / "candidate", trusted=None).weights().items():
        np.testing.assert_array_equal(array, weights[name])


@pytest.mark.parametrize("change", [lambda w: w * 1.001, lambda w: np.roll(w, 1, axis=0), lambda w: w * np.nan])
def test_a_model_that_differs_from_its_network_is_refused(
    job: Path, parts: Parts, change: Callable[[np.ndarray], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, weights, statistics = parts
    expected = by_torch(read, weights)
    monkeypatch.setattr(candidate, "network_graph", perturbed(change))
    with pytest.raises(MismatchError, match=r"logits of the \.tflite model is off by"):
        candidate.write(read, weights, statistics, expected)
    assert not (job / "candidate").exists()


def test_such_a_training_ends_in_a_result_that_says_so(
    world: World, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_job(job, msgspec.structs.replace(read_job(job), tier="sparse", epochs=1))
    monkeypatch.setattr(candidate, "network_graph", perturbed(lambda weight: weight + 0.01))
    result = run(job)
    assert not result.ok and "is off by" in result.reason
    assert not (job / "candidate").exists()


def test_without_torch_the_features_are_held_to_those_of_the_samples(job: Path, parts: Parts) -> None:
    read, weights, statistics = parts
    candidate.write(read, weights, statistics, expected=None)
    assert (job / "candidate").is_dir()
    weights["layer3.0.conv2.weight"] = -weights["layer3.0.conv2.weight"]
    (job / "candidate").rename(job / "earlier")
    with pytest.raises(MismatchError, match="not those of the model that it extends"):
        candidate.write(read, weights, statistics, expected=None)
    assert not (job / "candidate").exists()


def test_what_an_earlier_attempt_left_is_replaced(job: Path, parts: Parts) -> None:
    read, weights, statistics = parts
    (job / "candidate").mkdir()
    (job / "candidate" / "junk").write_text("half")
    candidate.write(read, weights, statistics, expected=None)
    assert not (job / "candidate" / "junk").exists()


def test_quantised_weights_are_written_when_asked_for(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.tflite_writer._QUANTISE_FROM", 100)  # nothing in a tiny network is worth it otherwise
    sizes = {}
    for quantise in ("none", "dynamic_int8"):
        job = world.job(tmp_path / quantise, images(NEW, 24), quantise=quantise)
        assert run(job).ok
        made = bundle.load(job / "candidate", trusted=None)
        logits, features = tflite.run(made.read(bundle.MODEL), preprocess.normalise(images("teal", 4), INPUT))
        assert logits.shape == (4, 4) and features.shape == (4, 8) and np.isfinite(logits).all()
        sizes[quantise] = made.manifest.files[bundle.MODEL].size_bytes
        # The weights themselves stay float: the next round trains on them.
        assert made.weights()["conv1.weight"].dtype == np.float32
    assert sizes["dynamic_int8"] < sizes["none"]
