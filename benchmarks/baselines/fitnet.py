"""FitNet (Romero et al. 2015): first the student's middle group learns the teacher's by a regressor on top of it, then
the whole student is trained: on the labels ('hints'), or on the teacher's softened logits too ('hints + logits')."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.baselines.gradient import Batch, Lesson, Loss, MakeLoss
from benchmarks.baselines.lwf import softened
from transfer.wire import BlockWanted

STAGE_1 = 0.5
"""Share of all steps that the hints get."""
TEMPERATURE = 4.0


def loss(*, logits: bool) -> MakeLoss:
    def make(lesson: Lesson) -> Loss:
        group = len(lesson.net.spec.groups) // 2
        blocks = lesson.teacher.spec.groups[group]
        width = blocks[-1].out
        said = lesson.answers([BlockWanted(group=group, block=len(blocks) - 1, channels=tuple(range(width)))])
        regressor = nn.Conv2d(lesson.net.spec.groups[group][-1].out, width, 1)
        lesson.helpers.append(regressor.to(next(lesson.net.parameters()).device))
        mine, theirs = lesson.shared()

        def loss_of(batch: Batch) -> Tensor:
            device = batch.x.device
            if batch.progress < STAGE_1:
                hint = torch.from_numpy(said.maps[group][batch.rows, batch.view]).to(device)
                return functional.mse_loss(regressor(batch.out.blocks[group][-1]), hint)
            labels = functional.cross_entropy(batch.out.logits, batch.targets)
            if not logits:
                return labels
            wanted = torch.from_numpy(said.logits[batch.rows, batch.view]).to(device)[:, theirs]
            return labels + lesson.choice.weight * softened(batch.out.logits[:, mine], wanted, TEMPERATURE)

        return loss_of

    return make
