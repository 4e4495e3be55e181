"""The losses by which the gradient baselines differ, each on one real batch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.baselines import fitnet, independent, lwf, paper, rilod
from benchmarks.baselines.choice import Choice
from benchmarks.baselines.gradient import Batch, Lesson, MakeLoss
from benchmarks.baselines.start import grown, of_student
from benchmarks.learner import new_images
from benchmarks.setting import Setting
from benchmarks.students import Student
from transfer import losses
from transfer.pairing import scatter
from transfer.questions import to_tensor


@pytest.fixture
def lesson(make_setting: Callable[..., Setting], shipped: Student) -> Lesson:
    images = new_images(make_setting(), "plain", 0)
    start = of_student(shipped)
    net = grown(start, images, "mean feature", 0)
    labels = (*start.labels, "plain")
    return Lesson(net, copy.deepcopy(net), shipped.teacher, labels, images, start, Choice(1e-3, weight=2.0))


def batch_of(lesson: Lesson, progress: float = 0.0) -> Batch:
    """The first four images as they are: view 0."""
    x = to_tensor(lesson.images[:4], lesson.start.input)
    return Batch(np.arange(4), 0, x, lesson.net(x), torch.full((4,), 3), progress)


def value(make: MakeLoss, lesson: Lesson, progress: float = 0.0) -> Tensor:
    return make(lesson)(batch_of(lesson, progress)).detach()


def test_without_having_moved_there_is_nothing_to_hold_but_the_labels(lesson: Lesson) -> None:
    labels = float(value(independent.loss, lesson))
    assert float(value(lwf.loss, lesson)) == pytest.approx(labels, abs=1e-5)
    assert float(value(rilod.loss, lesson)) == pytest.approx(labels, abs=1e-5)


def test_having_moved_costs_both_in_proportion_to_their_weight(lesson: Lesson) -> None:
    with torch.no_grad():
        for parameter in lesson.net.parameters():
            parameter.mul_(1.1)
    labels = float(value(independent.loss, lesson))
    heavier = copy.copy(lesson)
    object.__setattr__(heavier, "choice", Choice(1e-3, weight=4.0))
    for loss in (lwf.loss, rilod.loss):
        once, twice = float(value(loss, lesson)) - labels, float(value(loss, heavier)) - labels
        assert once > 0 and twice == pytest.approx(2 * once, rel=1e-3)


def test_softened_is_zero_where_both_agree_and_pulls_towards_the_teacher() -> None:
    teacher = torch.tensor([[2.0, 0.0, -1.0]])
    student = torch.zeros(1, 3, requires_grad=True)
    assert float(lwf.softened(teacher, teacher, 2.0)) == pytest.approx(0.0, abs=1e-6)
    lwf.softened(student, teacher, 2.0).backward()
    assert student.grad is not None and student.grad[0, 0] < 0 < student.grad[0, 2]


def test_the_paper_s_loss_is_that_of_the_whole_padded_maps(lesson: Lesson, shipped: Student) -> None:
    pairs = shipped.bundle.manifest.pairs
    with torch.no_grad():
        batch = batch_of(lesson)
        said = lesson.teacher.net(batch.x)
        wanted = losses.j3(batch.out.logits, batch.targets) + 2.0 * losses.j1(batch.out.logits, said.logits)
        for pair in pairs:
            there = said.blocks[pair.group][pair.teacher_block]
            mine = scatter(batch.out.blocks[pair.group][-1], pair.channels, there.shape[1])
            gap = losses.unit(mine) - losses.unit(there)
            wanted = wanted + 2.0 * gap.square().sum(dim=(1, 2, 3)).sqrt().mean()
        assert float(value(paper.loss(pairs), lesson)) == pytest.approx(float(wanted), rel=1e-4)


def test_fitnet_learns_hints_first_and_labels_or_logits_then(lesson: Lesson) -> None:
    hint = fitnet.loss(logits=False)(lesson)
    (regressor,) = lesson.helpers
    hint(batch_of(lesson, 0.0)).backward()
    reached = {name for name, parameter in lesson.net.named_parameters() if parameter.grad is not None}
    assert regressor.weight.grad is not None
    assert "layer2.0.conv2.weight" in reached and not any(n.startswith(("layer3", "linear")) for n in reached)
    labels = float(value(independent.loss, lesson))
    assert float(hint(batch_of(lesson, 0.5)).detach()) == pytest.approx(labels)
    assert float(value(fitnet.loss(logits=True), lesson, 0.5)) > labels
