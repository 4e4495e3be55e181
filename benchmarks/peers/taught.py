"""A pruned network trained as `cloud_teacher.distil` trains a student: the same views, loss and schedule. So a
peer differs from ours in what it pruned and in nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.peers.torch_pruning import Pruned
from cloud_teacher import compute
from cloud_teacher.datasets import Dataset
from cloud_teacher.distil import LABELS_WEIGHT, LOGITS_WEIGHT, Recipe, apart
from cloud_teacher.progress import Report
from cloud_teacher.teacher_outputs import TeacherOutputs
from cloud_teacher.train import AfterEpoch, Rows, identity_of, optimise
from cloud_teacher.zoo import Teacher
from transfer.networks import Network
from transfer.questions import to_tensor


def taught(
    teacher: Teacher,
    data: Dataset,
    pruned: Pruned,
    recipe: Recipe,
    *,
    cache_dir: Path,
    report: Report,
    after_epoch: AfterEpoch,
) -> Network:
    """`pruned.net`, trained in place on all training images of `data`. Goes on from its checkpoint."""
    net = cast(Network, pruned.net)
    known = torch.tensor([teacher.labels.index(label) for label in data.labels], device=compute.device())
    kept = torch.tensor(pruned.feature, device=compute.device())
    targets = torch.from_numpy(data.train_targets)
    views = min(recipe.views, recipe.schedule.epochs)
    outputs = TeacherOutputs(teacher, data, cache_dir)
    outputs.prepare(views, lambda done, total: report("ask teacher", done, total))

    def loss_of(rows: Rows, epoch: int, random: np.random.Generator) -> Tensor:
        images = outputs.pictures(epoch % views, rows)
        with compute.rounded():
            mine = net(to_tensor(images, teacher.input).to(compute.device()))
        said = outputs.of(epoch % views, rows)
        logits, wanted = mine.logits.float(), targets[torch.from_numpy(rows)].to(compute.device())
        labels: Tensor = functional.cross_entropy(logits[:, known], wanted)
        features = apart(mine.feature.float(), said.features.to(compute.device())[:, kept])
        speech = apart(logits, said.logits.to(compute.device()))
        return LABELS_WEIGHT * labels + LOGITS_WEIGHT * speech + recipe.features_weight * features

    shapes = [tuple(weight.shape) for weight in net.parameters()]
    weights = (LOGITS_WEIGHT, recipe.features_weight, LABELS_WEIGHT)
    identity = identity_of("peer", teacher.digest, data.fingerprint, shapes, pruned.feature, recipe, weights)
    optimise(
        net,
        len(data.train_images),
        loss_of,
        recipe.schedule,
        stage="train student",
        cache_dir=cache_dir,
        identity=identity,
        report=report,
        after_epoch=after_epoch,
    )
    return net
