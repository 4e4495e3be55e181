from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks.baselines import independent
from benchmarks.baselines.choice import Choice
from benchmarks.baselines.gradient import EPOCHS, VIEWS, Batch, GradientLearner, Lesson, batches, descend, moving
from benchmarks.baselines.start import of_student
from benchmarks.learner import judged, new_images
from benchmarks.setting import Setting
from benchmarks.students import Student
from tests.benchmarks import toy
from transfer.networks import weights_of
from transfer.wire import BlockWanted


def learner(student: Student, rate: float = 1e-2, **fields: str) -> GradientLearner:
    return GradientLearner(of_student(student), student.teacher, 0, Choice(rate), independent.loss, **fields)


def test_large_steps_on_the_new_category_alone_forget_the_others(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    learning = learner(shipped, rate=0.1)
    before = judged(learning, toy.data(), ())
    learning.learn("plain", new_images(make_setting(), "plain", 0))
    found = judged(learning, toy.data(), ("plain",))
    assert learning.labels == (*shipped.bundle.manifest.labels, "plain") and learning.net.classes == 4
    assert found.new == 100.0 and found.old is not None and before.old is not None
    assert found.old < before.old - 20
    assert learning.seconds > 0


def test_what_does_not_move_stays_and_batch_norms_always_keep_their_statistics(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    before = weights_of(of_student(shipped).net)
    learning = learner(shipped, moving="last")
    learning.learn("plain", new_images(make_setting(), "plain", 0))
    after = weights_of(learning._start.net)
    changed = {name for name in before if not np.array_equal(before[name], after[name][: len(before[name])])}
    assert changed == {"layer1.0.conv2.weight", "layer2.0.conv2.weight", "layer3.0.conv2.weight"} | {
        "linear.weight",
        "linear.bias",
    }
    whole = learner(shipped)
    whole.learn("plain", new_images(make_setting(), "plain", 0))
    after = weights_of(whole._start.net)
    assert all(np.array_equal(before[name], after[name]) for name in before if ".running_" in name)
    assert not np.array_equal(before["conv1.weight"], after["conv1.weight"])


def test_the_same_seed_learns_the_same(make_setting: Callable[..., Setting], shipped: Student) -> None:
    images = new_images(make_setting(), "plain", 0)
    learners = [learner(shipped) for _ in range(2)]
    for one in learners:
        one.learn("plain", images)
    first, second = (weights_of(one._start.net) for one in learners)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_lesson_knows_who_shares_which_category_and_asks_for_whole_maps(
    make_setting: Callable[..., Setting], shipped: Student, shipped_t9: Student
) -> None:
    seen: list[tuple[Lesson, Batch]] = []

    def watching(lesson: Lesson) -> Callable[[Batch], torch.Tensor]:
        def loss(batch: Batch) -> torch.Tensor:
            seen.append((lesson, batch))
            return functional.cross_entropy(batch.out.logits, batch.targets)

        return loss

    images = new_images(make_setting(), "plain", 0)
    for student, shared in ((shipped, [0, 1, 2, 3]), (shipped_t9, [0, 1, 2])):
        seen.clear()
        GradientLearner(of_student(student), student.teacher, 0, Choice(1e-3), watching).learn("plain", images)
        lesson = seen[0][0]
        assert lesson.shared() == (shared, shared) and lesson.known == 3
        said = lesson.answers([BlockWanted(group=0, block=0, channels=(1, 0))])
        assert said.maps[0].shape == (16, VIEWS, 2, 16, 16) and said.logits.shape[:2] == (16, VIEWS)
    assert [batch.view for _, batch in seen] == [epoch % VIEWS for epoch in range(EPOCHS)]
    assert all(batch.targets.tolist() == [3] * 16 for _, batch in seen)
    assert seen[0][1].progress == 0 and seen[-1][1].progress < 1


def test_steps_go_down_and_a_loss_that_is_no_number_is_said_to_be() -> None:
    x = torch.nn.Parameter(torch.tensor([3.0]))
    descend([x], 60, 0.1, lambda step: x.square().sum())
    assert abs(float(x.detach())) < 0.1
    with pytest.raises(FloatingPointError, match=r"step 0; lower the rate 0\.1"):
        descend([x], 2, 0.1, lambda step: x.sum() * float("nan"))


def test_every_row_is_in_one_batch_and_moving_names_the_paper_s_part(shipped: Student) -> None:
    assert sorted(np.concatenate(batches(150, 1, 0))) == list(range(150))
    net = of_student(shipped).net
    assert len(moving(net, "last")) == 3 + 2
    assert len(moving(net, "all")) == len(list(net.parameters()))
