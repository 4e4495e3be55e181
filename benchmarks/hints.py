"""FitNet (Romero et al. 2015), the paper's own rival: a whole student trained by hints and then by logits or labels.

Stage 1: the middle of the student, through a 1x1 convolution that is thrown away afterwards, is brought near the middle
of the teacher (the squared distance of the maps); what lies behind it does not move. Stage 2: the whole student follows
the softened logits of the teacher and the labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_teacher import compute
from cloud_teacher.augmentation import augment
from cloud_teacher.datasets import Dataset
from cloud_teacher.progress import Report
from cloud_teacher.train import AfterEpoch, Rows, Schedule, identity_of, optimise
from cloud_teacher.zoo import Teacher, fast
from transfer.networks import Network
from transfer.plan import Plan, shrunk_spec
from transfer.questions import to_tensor

VERSION = 1
TEMPERATURE = 4.0
HINT_SHARE = 0.2
"""Of all epochs, those of stage 1: so both stages together take as long as any other method's training."""
REGRESSOR = "regressor"


@dataclass(frozen=True)
class Hints:
    """logits: what stage 2 learns from besides the labels: the teacher's softened logits (FitNet as published), or
    nothing."""

    schedule: Schedule
    logits: bool = True


def fitnet(
    teacher: Teacher,
    data: Dataset,
    chosen: Plan,
    hints: Hints,
    *,
    cache_dir: Path | None,
    report: Report,
    after_epoch: AfterEpoch | None = None,
) -> Network:
    """The student of the shape `chosen`, from random weights, with all the teacher's logits. `report` calls both stages
    "train student"; after_epoch counts the epochs of both."""
    torch.manual_seed(hints.schedule.seed)
    student = fast(Network(shrunk_spec(teacher.spec, chosen)))
    middle = len(chosen.out) // 2
    width = teacher.spec.groups[middle][-1].out
    student.add_module(REGRESSOR, nn.Conv2d(len(chosen.out[middle]), width, 1))
    known = torch.tensor([teacher.labels.index(label) for label in data.labels], device=compute.device())
    targets = torch.from_numpy(data.train_targets)
    epochs = hints.schedule.epochs
    first = min(max(1, round(HINT_SHARE * epochs)), epochs - 1)
    teacher.net.to(compute.device())

    def seen(rows: Rows, random: np.random.Generator) -> Tensor:
        images = augment(data.train_images[rows], random, flip=data.flip)
        return to_tensor(images, teacher.input).to(compute.device())

    def hint(rows: Rows, epoch: int, random: np.random.Generator) -> Tensor:
        views = seen(rows, random)
        with torch.no_grad(), compute.rounded():
            there = teacher.net(views).blocks[middle][-1].float()
        with compute.rounded():
            here = student.get_submodule(REGRESSOR)(student(views).blocks[middle][-1]).float()
        gap: Tensor = functional.mse_loss(here, there) / (there.square().mean() + 1e-8)
        return gap

    def whole(rows: Rows, epoch: int, random: np.random.Generator) -> Tensor:
        views = seen(rows, random)
        with compute.rounded():
            logits = student(views).logits.float()
        loss = functional.cross_entropy(logits[:, known], targets[torch.from_numpy(rows)].to(compute.device()))
        if not hints.logits:
            return loss
        with torch.no_grad(), compute.rounded():
            theirs = teacher.net(views).logits.float()
        # The square of the temperature keeps the softened part's slope as steep as the labels'.
        soft = functional.kl_div(
            (logits / TEMPERATURE).log_softmax(dim=1), (theirs / TEMPERATURE).softmax(dim=1), reduction="batchmean"
        )
        return loss + TEMPERATURE**2 * soft

    stages = ((hint, 0, first), (whole, first, epochs - first))
    try:
        for stage, (loss_of, done, more) in enumerate(stages):
            if more == 0:
                continue
            identity = identity_of("fitnet", VERSION, stage, teacher.digest, data.fingerprint, chosen, hints)
            optimise(
                student,
                len(data.train_images),
                loss_of,
                replace(hints.schedule, epochs=more),
                stage="train student",
                cache_dir=cache_dir,
                identity=identity,
                report=report,
                after_epoch=_shifted(after_epoch, done),
            )
    finally:
        teacher.net.cpu()
    del student._modules[REGRESSOR]
    return student


def _shifted(after_epoch: AfterEpoch | None, done: int) -> AfterEpoch | None:
    if after_epoch is None:
        return None
    return lambda epochs, net: after_epoch(done + epochs, net)
