"""The gradient tiers: what moves and what must not, what is learned from, and stopping in the middle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import torch
from tiny_world import NEW, OLD, World, images, ready

from agent.adapters.inference import Classifier
from agent.job import read_job, write_job
from agent.trainer import teacher, tiers
from agent.trainer.inputs import UNLABELLED, Inputs, Unteachable
from agent.trainer.lesson import MOST_DRIFT
from agent.trainer.task import task_of
from transfer import bundle, tflite

LIME = images(NEW, 24, seed=4)
Progress = list[tuple[str, int, int]]


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(2)


def learn(read: Inputs, *, stop_after: int = 10**9) -> tuple[dict[str, np.ndarray], Progress]:
    """The candidate's weights, and what was reported."""
    told: Progress = []
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked > stop_after

    tiers.learn(read, teacher.from_answers(read), lambda stage, i, n: told.append((stage, i, n)), stopping)
    return bundle.load(read.folder / "candidate", trusted=None).weights(), told


def changed(read: Inputs, weights: dict[str, np.ndarray]) -> set[str]:
    """The arrays that training changed; of the linear layer, the old rows count."""
    before = read.model.weights()
    return {name for name, array in before.items() if not np.array_equal(weights[name][: len(array)], array)}


# ------------------------------------------------------------------------------------------------ what moves


def test_sparse_moves_the_last_convolution_and_the_classifier_only(prepared: Callable[..., Inputs]) -> None:
    read = prepared("sparse")
    weights, _ = learn(read)
    assert changed(read, weights) == {"layer3.0.conv2.weight", "linear.weight", "linear.bias"}


@pytest.mark.parametrize("asked", [True, False])
def test_transfer_moves_the_last_convolution_of_every_group(prepared: Callable[..., Inputs], asked: bool) -> None:
    """Batch norms and their statistics stay in either case: batches of one category would corrupt them."""
    read = prepared("transfer", asked=asked)
    weights, _ = learn(read)
    moved = {f"layer{group}.0.conv2.weight" for group in (1, 2, 3)}
    assert changed(read, weights) == moved | {"linear.weight", "linear.bias"}


def test_the_candidate_knows_one_category_more(prepared: Callable[..., Inputs]) -> None:
    read = prepared("sparse")
    learn(read)
    made = bundle.load(read.folder / "candidate", trusted=None)
    assert made.manifest.labels == (*OLD, NEW) == made.statistics().labels
    assert made.statistics().counts[3] == read.train.sum()
    np.testing.assert_array_equal(made.statistics().means[:3], read.model.statistics().means)


def test_a_new_category_is_known_from_its_images_both_ways_round(prepared: Callable[..., Inputs]) -> None:
    read = prepared("sparse")
    assert read.model.manifest.flip
    learn(read)
    made = bundle.load(read.folder / "candidate", trusted=None)
    mine, size, known = read.images[read.of(3)], made.manifest.input, made.statistics()
    both = np.concatenate([mine, np.ascontiguousarray(mine[:, :, ::-1])])
    seen = tflite.features(made.read(bundle.MODEL), both, size) ** known.power
    np.testing.assert_allclose(known.means[3], seen.mean(axis=0), rtol=0.02, atol=0.02)
    alone = np.abs(known.means[3] - seen[: len(mine)].mean(axis=0)).max()
    assert alone > 2 * np.abs(known.means[3] - seen.mean(axis=0)).max()


# ------------------------------------------------------------------------------------------------ what from


def test_the_teachers_word_makes_a_difference(world: World, prepared: Callable[..., Inputs]) -> None:
    same, other = prepared("transfer", asked=True), prepared("transfer", asked=True)
    (path,) = other.activation_files
    told = teacher.from_answers(other)
    assert told is not None
    path.unlink()
    world.answer(other.folder, blocks=())
    assert not np.array_equal(learn(same)[0]["layer1.0.conv2.weight"], learn(other)[0]["layer1.0.conv2.weight"])


def test_the_same_job_gives_the_same_weights_and_another_seed_others(prepared: Callable[..., Inputs]) -> None:
    first, again, other = (learn(prepared("sparse", seed=seed))[0] for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["linear.weight"], other["linear.weight"])


def test_what_is_held_out_trains_nothing(prepared: Callable[..., Inputs]) -> None:
    read, spoiled = prepared("sparse"), prepared("sparse")
    arrays = safetensors.numpy.load_file(spoiled.folder / "samples.safetensors")
    arrays["images"][~spoiled.train] = 0
    arrays["features"][~spoiled.train] = 9
    (spoiled.folder / "samples.safetensors").write_bytes(safetensors.numpy.save(arrays))
    one, other = learn(read)[0], learn(ready(spoiled.folder))[0]
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_teacher_that_shares_no_label_still_teaches_by_its_maps(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer", asked=True)
    told = teacher.from_answers(read)
    assert told is not None
    strange = teacher.Taught(("x", "y", "z", "w"), told.logits, told.maps, told.residuals)
    tiers.learn(read, strange, lambda stage, i, n: None, lambda: False)
    assert (read.folder / "candidate").is_dir()


def test_pseudo_features_are_of_every_old_category_and_repeatable(world: World) -> None:
    statistics = world.bundle().statistics()
    features, targets = tiers.pseudo(statistics, 60, seed=3)
    again, _ = tiers.pseudo(statistics, 60, seed=3)
    assert torch.equal(features, again) and not torch.equal(features, tiers.pseudo(statistics, 60, seed=4)[0])
    assert torch.bincount(targets).tolist() == [20, 20, 20]
    said = statistics.posterior(features.numpy()).argmax(axis=1)
    assert (said == targets.numpy()).mean() > 0.8


def test_several_categories_have_a_row_each_and_their_own_targets(world: World, tmp_path: Path) -> None:
    pictures = np.concatenate([LIME, 255 - LIME])
    job = world.job(tmp_path, pictures, tier="sparse", categories=(NEW, "violet"), epochs=20)
    read = ready(job, [3] * 24 + [4] * 24)
    task = task_of(read, None)
    np.testing.assert_array_equal(task.targets, np.where(task.rows < 24, 3, 4))
    learn(read)
    made = bundle.load(job / "candidate", trusted=None)
    assert made.manifest.labels == (*OLD, NEW, "violet") and made.statistics().counts[3:].tolist() == [18, 18]
    said = [verdict.label for verdict in Classifier(made, 2).classify(pictures)]
    assert np.mean(np.array(said) == [NEW] * 24 + ["violet"] * 24) >= 0.9


def test_what_has_no_label_is_in_no_categorys_statistics(world: World, tmp_path: Path) -> None:
    job = world.job(tmp_path, np.concatenate([LIME, images("teal", 12, seed=4)]), tier="transfer")
    world.answer(job)
    learn(ready(job, [3] * 24 + [UNLABELLED] * 12))
    assert bundle.load(job / "candidate", trusted=None).statistics().counts.tolist() == [60, 60, 60, 18]


# ------------------------------------------------------------------------------------------------ in the middle


def test_progress_counts_the_epochs(prepared: Callable[..., Inputs]) -> None:
    _, told = learn(prepared("sparse"))
    assert [(i, n) for stage, i, n in told if stage == "train"] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert told[-1] == ("write", 1, 1) and told[0][0] == "prefix"


def test_stopping_leaves_a_checkpoint_and_no_candidate(prepared: Callable[..., Inputs]) -> None:
    read = prepared("sparse")
    with pytest.raises(tiers.Stopped):
        learn(read, stop_after=4)  # three batches an epoch: in the middle of the second
    assert (read.folder / "checkpoint.safetensors").exists() and not (read.folder / "candidate").exists()
    _, told = learn(read)
    assert [i for stage, i, _ in told if stage == "train"] == [1, 2, 3]


def test_a_rate_too_large_for_the_network_is_halved_until_the_features_hold(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer", learning_rate=0.03)
    _, told = learn(read)
    epochs = [i for stage, i, _ in told if stage == "train"]
    assert epochs.count(0) > 1 and epochs[-4:] == [0, 1, 2, 3]
    candidate = bundle.load(read.folder / "candidate", trusted=None)
    was, now = (
        tflite.features(one.tflite_path.read_bytes(), read.images, one.manifest.input)
        for one in (read.model, candidate)
    )
    assert np.square(now - was).mean() < 2 * MOST_DRIFT * np.square(was).mean()


def test_a_stopped_training_goes_on_at_the_pace_it_had(prepared: Callable[..., Inputs]) -> None:
    whole, _ = learn(prepared("transfer", learning_rate=0.03))
    read = prepared("transfer", learning_rate=0.03)
    with pytest.raises(tiers.Stopped):
        learn(read, stop_after=30)
    again, told = learn(read)
    assert next(i for stage, i, _ in told if stage == "train") > 0
    assert all(np.array_equal(value, again[name]) for name, value in whole.items())


def test_a_rate_beyond_all_measure_is_said(prepared: Callable[..., Inputs]) -> None:
    with pytest.raises(Unteachable, match="lower the rate"):
        learn(prepared("transfer", learning_rate=10.0))


def test_a_checkpoint_of_another_tier_is_not_gone_on_with(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer")
    with pytest.raises(tiers.Stopped):
        learn(read, stop_after=4)
    write_job(read.folder, msgspec.structs.replace(read_job(read.folder), tier="sparse"))
    _, told = learn(ready(read.folder))
    assert [i for stage, i, _ in told if stage == "train"] == [0, 1, 2, 3]
