"""RILOD (Li et al. 2019) for a classifier, our reading of it: the old network is the teacher; its outputs for the old
categories (squared distance) and its features (L1 distance of the last group's map) are held while the whole network
learns. The detector's third term, on boxes, has no counterpart here."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.baselines.gradient import Batch, Lesson, Loss


def loss(lesson: Lesson) -> Loss:
    def loss_of(batch: Batch) -> Tensor:
        with torch.no_grad():
            former = lesson.former(batch.x)
        old = functional.mse_loss(batch.out.logits[:, : lesson.known], former.logits[:, : lesson.known])
        maps = functional.l1_loss(batch.out.blocks[-1][-1], former.blocks[-1][-1])
        labels = functional.cross_entropy(batch.out.logits, batch.targets)
        return labels + lesson.choice.weight * (old + maps)

    return loss_of
