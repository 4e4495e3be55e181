"""What a step goes down, and what it moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import NEW, World, images, ready
from torch.nn import functional

from agent.trainer import lesson, teacher, tiers
from agent.trainer.inputs import UNLABELLED, Inputs
from agent.trainer.lesson import Lesson, Old
from agent.trainer.teacher import Taught
from transfer import losses
from transfer.networks import Network, weights_of

BATCH = np.array([5, 0, 11])


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(2)


def begun(read: Inputs, taught: Taught | None = None) -> tuple[Lesson, Network]:
    net = tiers.grown(read, taught)
    return tiers.lesson(read, taught, net, lambda stage, done, total: None), net


def old(read: Inputs) -> Old:
    return tiers.pseudo(read.model.statistics(), 12, seed=0)


@pytest.mark.parametrize("asked", [True, False])
def test_the_loss_is_the_papers_and_what_holds_the_old(prepared: Callable[..., Inputs], asked: bool) -> None:
    """l1*J1 + l2*sum(Jb) + l3*J3 with our weights (the paper gives none), the old categories' cross entropy, and the
    features held where they were; here after one step away from it."""
    read = prepared("transfer", asked=asked)
    taught = teacher.from_answers(read)
    learning, net = begun(read, taught)
    views = learning.task.tensor(BATCH)
    with torch.no_grad():
        former = net(views)
        energy = net(learning.task.tensor(np.arange(len(learning.task)))).feature.square().mean()
    learning.step(BATCH, old(read))
    with torch.no_grad():
        got, out = learning.loss(BATCH, old(read)), net(views)
        wanted = 1.0 * losses.j3(out.logits, torch.tensor([3, 3, 3]))
        wanted += functional.cross_entropy(net.last_linear(old(read).features), old(read).targets)
        wanted += lesson.LAMBDA_KEEP * (out.feature - former.feature).square().mean() / energy
        if taught is None:
            wanted += 0.2 * losses.j1(out.logits[:, :3], former.logits[:, :3])
        else:
            place = learning.task.rows[BATCH], learning.task.numbers[BATCH]
            wanted += 0.2 * losses.j1(out.logits, torch.from_numpy(taught.logits[place]))
            for group in range(3):
                theirs, rest = (torch.from_numpy(part[group][place]) for part in (taught.maps, taught.residuals))
                mine = losses.pooled(out.blocks[group][-1], theirs.shape[-1])
                wanted += 0.3 * losses.jb(mine, theirs, rest)
    # The maps before what moves are kept in 8 bits.
    torch.testing.assert_close(got, wanted, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(("tier", "groups"), [("transfer", (1, 2, 3)), ("sparse", (3,))])
def test_a_step_moves_what_the_tier_says_and_nothing_else(
    prepared: Callable[..., Inputs], tier: str, groups: tuple[int, ...]
) -> None:
    read = prepared(tier, learning_rate=0.1)
    learning, net = begun(read)
    before = weights_of(net)
    for _ in range(2):
        learning.step(BATCH, old(read))
    moved = {name for name, array in weights_of(net).items() if not np.array_equal(array, before[name])}
    assert moved == {f"layer{group}.0.conv2.weight" for group in groups} | {"linear.weight", "linear.bias"}
    assert set(learning.optimiser.parameters) == moved
    assert {name for name, parameter in net.named_parameters() if parameter.requires_grad} == moved


def test_the_classifier_learns_ten_times_as_fast(prepared: Callable[..., Inputs]) -> None:
    """A share of the rate is a share of the step: the first one is a gradient step of 1 + momentum."""
    read = prepared("sparse", learning_rate=1e-3)
    learning, net = begun(read)
    slopes = torch.autograd.grad(learning.loss(BATCH, old(read)), list(learning.optimiser.parameters.values()))
    before = {name: parameter.detach().clone() for name, parameter in learning.optimiser.parameters.items()}
    learning.step(BATCH, old(read), share=0.5)
    for (name, parameter), slope in zip(learning.optimiser.parameters.items(), slopes, strict=True):
        rate = 1e-2 if name.startswith(net.blueprint.logits) else 1e-3
        torch.testing.assert_close(before[name] - parameter, 0.5 * rate * 1.9 * slope, rtol=1e-3, atol=1e-7)


def test_steps_go_down(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer", asked=True, learning_rate=1e-5)
    learning, _ = begun(read, teacher.from_answers(read))
    every = np.arange(len(learning.task))
    first = float(learning.loss(every, old(read)).detach())
    for _ in range(5):
        learning.step(every, old(read))
    assert float(learning.loss(every, old(read)).detach()) < first


def test_steps_too_large_run_away_and_it_begins_again_at_half_the_pace(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer", learning_rate=1.0)
    learning, net = begun(read)
    before = {name: value.copy() for name, value in weights_of(net).items()}
    with pytest.raises(lesson.RanAwayError):
        for _ in range(20):
            learning.step(BATCH, old(read))
    assert learning.begin_again() and float(learning.optimiser.pace) == 0.5
    assert all(np.array_equal(value, before[name]) for name, value in weights_of(net).items())
    assert not any(momentum.any() for momentum in learning.optimiser.momentum.values())
    assert [learning.begin_again() for _ in range(10)] == [True] * 9 + [False]


def test_columns_are_shared_by_label_not_by_place(prepared: Callable[..., Inputs]) -> None:
    read = prepared("transfer")
    nothing = np.zeros((24, 1, 3), np.float32)
    taught = Taught(labels=(NEW, "pink", "teal"), logits=nothing, maps={}, residuals={})
    assert lesson.shared_columns(read, taught) == ([1, 3], [2, 0])
    assert lesson.shared_columns(read, None) == ([0, 1, 2], [0, 1, 2])


def test_what_has_no_label_trains_by_the_teacher_alone(world: World, tmp_path: Path) -> None:
    """J1 and Jb without J3; of a batch without any label there is no J3 at all."""
    job = world.job(tmp_path, np.concatenate([images(NEW, 24, seed=4), images("teal", 12, seed=4)]), tier="transfer")
    world.answer(job)
    read = ready(job, [3] * 24 + [UNLABELLED] * 12)
    learning, net = begun(read, teacher.from_answers(read))
    silent = np.flatnonzero(learning.task.targets == UNLABELLED)[:4]
    with torch.no_grad():
        got = learning.loss(silent, old(read))
        learning.task = dataclasses.replace(learning.task, targets=np.full_like(learning.task.targets, 1))
        more = learning.loss(silent, old(read))
        logits = net(learning.task.tensor(silent)).logits
    torch.testing.assert_close(more - got, losses.j3(logits, torch.full((4,), 1)), rtol=2e-2, atol=2e-2)
