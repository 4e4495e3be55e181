"""The paper's own losses and nothing besides (section 4.1): l = J3 + w * (J1 + sum Jb), the teacher's maps whole and in
full precision. J1 runs over the categories that teacher and student share; each group's pair is the bundle's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.baselines.gradient import Batch, Lesson, Loss, MakeLoss
from transfer import losses
from transfer.activations import wanted
from transfer.manifest import Pair


def loss(pairs: Sequence[Pair]) -> MakeLoss:
    """The loss of a student whose blocks are paired with the teacher's like this."""

    def make(lesson: Lesson) -> Loss:
        said = lesson.answers(wanted(pairs))
        mine, theirs = lesson.shared()

        def loss_of(batch: Batch) -> Tensor:
            device = batch.x.device
            logits = torch.from_numpy(said.logits[batch.rows, batch.view]).to(device)
            distance = losses.j1(batch.out.logits[:, mine], logits[:, theirs])
            for group, maps in said.maps.items():
                kept = torch.from_numpy(maps[batch.rows, batch.view]).to(device)
                rest = torch.from_numpy(said.residuals[group][batch.rows, batch.view]).to(device)
                distance = distance + losses.jb(batch.out.blocks[group][-1], kept, rest)
            return losses.j3(batch.out.logits, batch.targets) + lesson.choice.weight * distance

        return loss_of

    return make
