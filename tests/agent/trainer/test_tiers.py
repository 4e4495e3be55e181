"""The gradient tiers: what moves and what must not, what is learned from, and stopping in the middle."""

from __future__ import annotations

import dataclasses
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
from agent.trainer.inputs import UNLABELLED, Inputs
from transfer import bundle, losses
from transfer.networks import build

LIME = images(NEW, 24, seed=4)
Progress = list[tuple[str, int, int]]


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture
def prepared(world: World, tmp_path: Path) -> Callable[..., Inputs]:
    """prepared(tier, asked=True, ...) -> the inputs of a job, answered by the teacher where it is asked."""

    def prepare(tier: str, *, asked: bool = False, **changes: object) -> Inputs:
        job = world.job(tmp_path / f"jobs-{len(list(tmp_path.iterdir()))}", LIME, tier=tier, **changes)
        if asked:
            world.answer(job)
        return ready(job)

    return prepare


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


@pytest.mark.parametrize(("whole", "convolutions"), [(True, 3), (False, 1)])
def test_only_what_moves_is_given_to_the_optimiser(
    prepared: Callable[..., Inputs], whole: bool, convolutions: int
) -> None:
    read = prepared("sparse")
    net = build(read.model.manifest.net, read.model.weights())
    moving, classifier = tiers._moving(net, whole=whole)
    assert len(moving) == convolutions and len(classifier) == 2
    assert {id(p) for p in net.parameters() if p.requires_grad} == {id(p) for p in (*moving, *classifier)}


# ------------------------------------------------------------------------------------------------ what from


@pytest.mark.parametrize("asked", [True, False])
def test_the_loss_is_the_papers_and_the_drift(prepared: Callable[..., Inputs], asked: bool) -> None:
    """l1*J1 + l2*sum(Jb) + l3*J3 with our weights (the paper gives none), and the features held where they were."""
    read = prepared("transfer", asked=asked)
    taught = teacher.from_answers(read)
    task = tiers._task(read, taught)
    former = tiers._grown(read, taught)
    anchors = tiers._anchors(former, read, task)
    batch = np.array([5, 0, 11])
    with torch.no_grad():
        logits, feature, maps = tiers._Whole(former, read, task).forward(batch)
        logits, feature = logits + 0.3, feature + 0.1
        got = tiers._loss(logits, feature, maps, anchors, batch, task, taught, tiers._shared_columns(read, taught))
        at = torch.from_numpy(batch)
        wanted = 1.0 * losses.j3(logits, torch.tensor([3, 3, 3]))
        wanted += tiers.LAMBDA_KEEP * 0.01 / anchors.feature.square().mean()
        if taught is None:
            wanted += 0.2 * losses.j1(logits[:, :3], anchors.logits[at][:, :3])
        else:
            place = task.rows[batch], task.numbers[batch]
            wanted += 0.2 * losses.j1(logits, torch.from_numpy(taught.logits[place]))
            for group in range(3):
                theirs, rest = (
                    torch.from_numpy(taught.maps[group][place]),
                    torch.from_numpy(taught.residuals[group][place]),
                )
                wanted += 0.3 * losses.jb(losses.pooled(maps[group], 4), theirs, rest)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


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


def test_columns_are_shared_by_label_not_by_place(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer")
    nothing = np.zeros((24, 1, 3), np.float32)
    taught = teacher.Taught(labels=(NEW, "pink", "teal"), logits=nothing, maps={}, residuals={})
    assert tiers._shared_columns(read, taught) == ([1, 3], [2, 0])
    assert tiers._shared_columns(read, None) == ([0, 1, 2], [0, 1, 2])


def test_a_teacher_that_shares_no_label_still_teaches_by_its_maps(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer", asked=True)
    told = teacher.from_answers(read)
    assert told is not None
    strange = teacher.Taught(("x", "y", "z", "w"), told.logits, told.maps, told.residuals)
    tiers.learn(read, strange, lambda stage, i, n: None, lambda: False)
    assert (read.folder / "candidate").is_dir()


def test_pseudo_features_are_of_every_old_category_and_repeatable(world: World) -> None:
    statistics = world.bundle().statistics()
    features, targets = tiers._pseudo(statistics, 60, seed=3)
    again, _ = tiers._pseudo(statistics, 60, seed=3)
    assert torch.equal(features, again) and not torch.equal(features, tiers._pseudo(statistics, 60, seed=4)[0])
    assert torch.bincount(targets).tolist() == [20, 20, 20]
    said = statistics.posterior(features.numpy()).argmax(axis=1)
    assert (said == targets.numpy()).mean() > 0.8


# ------------------------------------------------------------------------------------------------ the cached prefix


def test_over_the_prefix_the_network_says_nearly_the_same(prepared: Callable[..., Inputs]) -> None:
    read = prepared("sparse")
    net = build(read.model.manifest.net, read.model.weights())
    task = tiers._task(read, None)
    prefix = tiers._Prefix(net, read, task, lambda stage, i, n: None)
    batch = np.arange(len(task.rows))
    with torch.no_grad():
        logits, feature, maps = prefix.forward(batch)
        whole_logits, whole_feature, blocks = tiers._Whole(net, read, task).forward(batch)
    assert maps == [] and len(blocks) == 3
    torch.testing.assert_close(feature, whole_feature, atol=0.05 * float(whole_feature.abs().max()), rtol=0)
    torch.testing.assert_close(logits, whole_logits, atol=0.05 * float(whole_logits.abs().max()), rtol=0)


def test_several_categories_have_a_row_each_and_their_own_targets(world: World, tmp_path: Path) -> None:
    pictures = np.concatenate([LIME, 255 - LIME])
    job = world.job(tmp_path, pictures, tier="sparse", categories=(NEW, "violet"), epochs=20)
    read = ready(job, [3] * 24 + [4] * 24)
    task = tiers._task(read, None)
    np.testing.assert_array_equal(task.targets, np.where(task.rows < 24, 3, 4))
    learn(read)
    made = bundle.load(job / "candidate", trusted=None)
    assert made.manifest.labels == (*OLD, NEW, "violet") and made.statistics().counts[3:].tolist() == [18, 18]
    said = [verdict.label for verdict in Classifier(made, 2).classify(pictures)]
    assert np.mean(np.array(said) == [NEW] * 24 + ["violet"] * 24) >= 0.9


def test_what_has_no_label_trains_by_the_teacher_alone(world: World, tmp_path: Path) -> None:
    """J1 and Jb without J3; of a batch without any label there is no J3 at all."""
    job = world.job(tmp_path, np.concatenate([LIME, images("teal", 12, seed=4)]), tier="transfer")
    world.answer(job)
    read = ready(job, [3] * 24 + [UNLABELLED] * 12)
    taught = teacher.from_answers(read)
    task = tiers._task(read, taught)
    assert set(task.rows.tolist()) == {*np.flatnonzero(read.of(3)).tolist(), *range(24, 36)}  # none of those judges
    former = tiers._grown(read, taught)
    anchors, shared = tiers._anchors(former, read, task), tiers._shared_columns(read, taught)
    silent = np.flatnonzero(task.targets == UNLABELLED)[:4]
    with torch.no_grad():
        logits, feature, maps = tiers._Whole(former, read, task).forward(silent)
        got = tiers._loss(logits, feature, maps, anchors, silent, task, taught, shared)
        labelled = dataclasses.replace(task, targets=np.full_like(task.targets, 1))
        more = tiers._loss(logits, feature, maps, anchors, silent, labelled, taught, shared)
    torch.testing.assert_close(more - got, losses.j3(logits, torch.full((4,), 1)), rtol=1e-4, atol=1e-4)
    learn(read)
    assert bundle.load(job / "candidate", trusted=None).statistics().counts.tolist() == [60, 60, 60, 18]


def test_views_are_those_that_the_teacher_saw(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer", asked=True, views=3)
    task = tiers._task(read, teacher.from_answers(read))
    assert task.numbers.tolist() == [0, 1, 2] * 18
    assert set(task.rows.tolist()) == set(np.flatnonzero(read.train).tolist())
    np.testing.assert_array_equal(task.images[task.numbers == 0], read.images[read.train])


def test_quantised_maps_are_off_by_half_a_step_at_most() -> None:
    maps = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    steps, scale = tiers._quantised(maps)
    assert steps.dtype == torch.int8 and float((steps * scale - maps).abs().max()) <= float(scale) / 2 + 1e-6
    nothing, scale = tiers._quantised(torch.zeros(2, 2))
    assert float(scale) > 0 and not nothing.any()


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


def test_a_checkpoint_of_another_tier_is_not_gone_on_with(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer")
    with pytest.raises(tiers.Stopped):
        learn(read, stop_after=4)
    write_job(read.folder, msgspec.structs.replace(read_job(read.folder), tier="sparse"))
    _, told = learn(ready(read.folder))
    assert [i for stage, i, _ in told if stage == "train"] == [0, 1, 2, 3]
