from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.baselines.choice import Choice
from benchmarks.baselines.latent_replay import BUDGET_BYTES, LatentReplay, last_block
from benchmarks.baselines.start import of_student
from benchmarks.learner import judged, new_images
from benchmarks.setting import Setting
from benchmarks.students import Student
from tests.benchmarks import toy
from transfer.networks import weights_of
from transfer.questions import to_tensor


def test_it_learns_the_new_category_and_keeps_the_old_ones(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    setting = make_setting()
    learner = LatentReplay(setting, shipped, 0, Choice(0.1))
    stored = learner.stored_bytes
    learner.learn("plain", new_images(setting, "plain", 0))
    found = judged(learner, toy.data(), ("plain",))
    assert found.new is not None and found.old is not None and found.new > 50 and found.old > 50
    assert stored < learner.stored_bytes <= BUDGET_BYTES
    assert len(learner._targets) == len(learner.labels) * 16


def test_only_what_follows_the_latents_moves(make_setting: Callable[..., Setting], shipped: Student) -> None:
    setting = make_setting()
    before = weights_of(of_student(shipped).net)
    learner = LatentReplay(setting, shipped, 0, Choice(1e-2))
    learner.learn("plain", new_images(setting, "plain", 0))
    after = weights_of(learner._start.net)
    moved = {name for name in before if not np.array_equal(before[name], after[name][: len(before[name])])}
    assert moved and all(name.startswith(("layer3.0.", "linear.")) for name in moved)


def test_latents_are_what_enters_the_last_block_in_a_byte_a_value(
    make_setting: Callable[..., Setting], shipped: Student
) -> None:
    net = of_student(shipped).net
    x = to_tensor(toy.data().test_images[:2], shipped.bundle.manifest.input)
    with torch.no_grad():
        values = net.before(x, last_block(net))
        (latent,) = values.values()
        assert torch.equal(latent, net(x).blocks[1][-1])
        assert torch.allclose(net.after(values, last_block(net)).logits, net(x).logits, atol=1e-5)
    learner = LatentReplay(make_setting(), shipped, 0, Choice(1e-3))
    assert all(stored.dtype == torch.int8 for stored in learner._stored.values())
    assert learner.stored_bytes == len(learner._targets) * latent[0].numel()
