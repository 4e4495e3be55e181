"""What a baseline begins with: a network in torch and what it knows; and how it gets a row for one category more."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.baselines.choice import Row
from benchmarks.students import Student
from cloud_teacher import compute
from cloud_teacher.zoo import fast
from transfer.head import append_row
from transfer.networks import Network, Outputs, build, weights_of
from transfer.questions import to_tensor
from transfer.spec import InputSpec

Images = npt.NDArray[np.uint8]
BATCH = 256


@dataclass(frozen=True, eq=False)
class Start:
    """A network whose first logits are of `labels`. flip: its images may be mirrored."""

    net: Network
    labels: tuple[str, ...]
    input: InputSpec
    flip: bool


def of_student(student: Student) -> Start:
    manifest = student.bundle.manifest
    return Start(build(manifest.net, student.bundle.weights()), manifest.labels, manifest.input, manifest.flip)


def of_teacher(student: Student) -> Start:
    """The uncompressed network that the student was made from."""
    teacher = student.teacher
    net = build(teacher.spec, weights_of(teacher.net))
    return Start(net, teacher.labels, teacher.input, teacher.manifest.flip)


def outputs(net: Network, images: Images, input: InputSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """logits [n, C] and features [n, D] of images uint8 [n, h, w, 3], on the CPU."""
    device = next(net.parameters()).device
    with torch.no_grad():
        parts: list[Outputs] = [
            net(to_tensor(images[at : at + BATCH], input).to(device)) for at in range(0, len(images), BATCH)
        ]
    return torch.cat([part.logits for part in parts]).cpu(), torch.cat([part.feature for part in parts]).cpu()


def grown(start: Start, images: Images, row: Row, seed: int) -> Network:
    """A copy of the network with one row more: at the mean feature of the new category's `images`, scaled to the mean
    norm of the others, or by chance with their spread. On the device of `cloud_teacher.compute`, in evaluation mode."""
    weights, known, layer = weights_of(start.net), len(start.labels), start.net.blueprint.logits
    weight, bias = weights[f"{layer}.weight"][:known], weights[f"{layer}.bias"][:known]
    if row == "mean feature":
        mean = outputs(start.net, images, start.input)[1].numpy().mean(axis=0)[: weight.shape[1]]
        weight, bias = append_row(weight, bias, mean)
    else:
        drawn = np.random.default_rng(seed).normal(0, weight.std(), weight.shape[1:])
        weight, bias = np.concatenate([weight, drawn[None]]), np.concatenate([bias, [0.0]])
    weights[f"{layer}.weight"], weights[f"{layer}.bias"] = weight.astype(np.float32), bias.astype(np.float32)
    net = fast(build(msgspec.structs.replace(start.net.spec, classes=known + 1), weights))
    return net.to(compute.device())
