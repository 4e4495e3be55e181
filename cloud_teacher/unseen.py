"""A student that follows its teacher on categories of which it is never shown an image (arXiv 2201.10947, section 4.2).

There are pictures without labels, of other things, and the teacher: the loss is J1 on all its logits and the Jb on the
paired blocks, without J3, and all weights move. What carries over to categories that no picture shows is what the
teacher computes, not what the pictures are of; so it is asked about strong views of them, new ones in every epoch, and
some of the views are driven towards a category drawn by lot: moved by a small step in which the teacher sees more of
it. What a network goes by there, it goes by in real images too (Ilyas et al. 2019).

The pictures lean to a few categories, and so does a student of them. In the end its biases are set right by what the
teacher says of views in equal shares of all categories (`balanced_bias`): no label enters there either.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cloud_teacher import compute
from cloud_teacher.progress import Report, silent
from cloud_teacher.strong_views import strong_views
from cloud_teacher.train import AfterEpoch, Rows, Schedule, identity_of, optimise
from cloud_teacher.zoo import Teacher, fast
from transfer import losses, pairing
from transfer.inheritance import shrink
from transfer.networks import Network, Outputs, build, weights_of
from transfer.plan import Plan
from transfer.questions import to_tensor

Images = npt.NDArray[np.uint8]

Distance = Literal["paper", "squares"]
"""paper: J1 + sum(Jb) as printed. squares: the squared distances of logits and maps, relative to the maps' energy: they
weigh large errors more, and also fix the maps' scale, which eq. 4 divides out."""

DRIVEN_LENGTH = 0.03
"""Length of that step: the root mean square of the change, in normalised pixels (whose own is about 1)."""
BIAS_VIEWS = 2048
BIAS_STEPS = 200
VERSION = 1
"""To be raised when the same lesson makes another student."""


@dataclass(frozen=True)
class Lesson:
    """How the student is taught. An epoch is one new view of every picture.

    inherit: start from the weights of the teacher's kept filters, which have seen every category, and not from chance.
    blocks_weight: of the sum over the groups, against a logits' weight of 1 (paper) or a half (squares). pairing: the
    block of the teacher that each of the student's follows: the group's last, or the most similar in every batch (the
    paper). driven: share of the views that are moved towards a category. balance: correct the biases in the end.
    """

    schedule: Schedule
    inherit: bool = False
    distance: Distance = "paper"
    blocks_weight: float = 1.0
    pairing: Literal["last", "per_batch"] = "last"
    driven: float = 0.5
    balance: bool = True


def follow(
    teacher: Teacher,
    pictures: Images,
    chosen: Plan,
    lesson: Lesson,
    *,
    cache_dir: Path | None = None,
    report: Report = silent,
    after_epoch: AfterEpoch | None = None,
) -> Network:
    """The student of the shape `chosen`, with all the teacher's logits, taught on `pictures` uint8 [n, h, w, 3] of the
    teacher's size. Goes on from its checkpoint in `cache_dir`."""
    spec, weights = shrink(teacher.spec, weights_of(teacher.net), chosen)
    torch.manual_seed(lesson.schedule.seed)
    student = fast(build(spec, weights) if lesson.inherit else Network(spec))

    def loss_of(rows: Rows, epoch: int, random: np.random.Generator) -> Tensor:
        views = to_tensor(strong_views(pictures[rows], random), teacher.input).to(compute.device())
        count = round(lesson.driven * len(rows))
        if count:
            wanted = torch.from_numpy(random.integers(0, len(teacher.labels), count)).to(views.device)
            views = torch.cat([driven(teacher.net, views[:count], wanted), views[count:]])
        with torch.no_grad(), compute.rounded():
            theirs = teacher.net(views)
        with compute.rounded():
            mine = student(views)
        return distance(mine, theirs, chosen.out, lesson)

    content = hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()
    # Balanced or not, the training is the same.
    identity = identity_of("unseen", VERSION, teacher.digest, content, chosen, replace(lesson, balance=True))
    teacher.net.to(compute.device())
    try:
        optimise(
            student,
            len(pictures),
            loss_of,
            lesson.schedule,
            stage="train student",
            cache_dir=cache_dir,
            identity=identity,
            report=report,
            after_epoch=after_epoch,
        )
    finally:
        teacher.net.cpu()
    if lesson.balance:
        _balance(student, teacher, pictures, lesson.schedule.seed)
    return student


def driven(net: Network, views: Tensor, wanted: Tensor) -> Tensor:
    """The views [n, 3, h, w], normalised, each moved by DRIVEN_LENGTH to where `net` sees more of the category
    wanted [n] in it, along the slope of the cross entropy."""
    views = views.detach().requires_grad_(True)
    with compute.rounded():
        loss = functional.cross_entropy(net(views).logits.float(), wanted)
    (slope,) = torch.autograd.grad(loss, views)
    scale = slope.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return (views - DRIVEN_LENGTH * slope / (scale + 1e-12)).detach()


def distance(mine: Outputs, theirs: Outputs, kept: tuple[tuple[int, ...], ...], lesson: Lesson) -> Tensor:
    """J1 + blocks_weight * sum(Jb), no label in it, or its squares. kept: per group, the teacher's channels that the
    student's stand for."""
    maps = [blocks[-1].float() for blocks in mine.blocks]
    groups = [[block.float() for block in blocks] for blocks in theirs.blocks]
    paired = pairing.per_batch(maps, groups, kept) if lesson.pairing == "per_batch" else pairing.last(groups)
    logits, wanted = mine.logits.float(), theirs.logits.float()
    total = losses.j1(logits, wanted) if lesson.distance == "paper" else 0.5 * functional.mse_loss(logits, wanted)
    for map_, group, block, channels in zip(maps, groups, paired, kept, strict=True):
        whole = group[block]
        there = whole[:, list(channels)]
        if lesson.distance == "paper":
            residual = (whole.square().sum(dim=(1, 2, 3)) - there.square().sum(dim=(1, 2, 3))).clamp(min=0)
            total = total + lesson.blocks_weight * losses.jb(map_, there, residual)
        else:
            energy = there.square().mean() + losses.EPSILON
            total = total + lesson.blocks_weight * (map_ - there).square().mean() / energy
    return total


def _balance(student: Network, teacher: Teacher, pictures: Images, seed: int) -> None:
    # Another stream than any epoch's: views that the student was not taught.
    random = np.random.default_rng((seed, 2**31))
    parts: list[tuple[Tensor, Tensor]] = []
    for _ in range(0, BIAS_VIEWS, 128):
        rows = random.integers(0, len(pictures), 128)
        views = to_tensor(strong_views(pictures[rows], random), teacher.input)
        with torch.no_grad():
            parts.append((student.eval()(views).logits, teacher.net(views).logits))
    mine, theirs = (torch.cat(side) for side in zip(*parts, strict=True))
    with torch.no_grad():
        student.last_linear.bias.add_(balanced_bias(mine, theirs))


def balanced_bias(mine: Tensor, theirs: Tensor) -> Tensor:
    """What to add to the student's logits [n, C] so that it follows the teacher's [n, C] best where all categories are
    as frequent: the bias [C], of mean 0, that minimises the cross entropy against the teacher's softmax when every
    category that the teacher names has the same weight. A category that it never names counts as one view."""
    named = theirs.argmax(dim=1)
    counts = torch.bincount(named, minlength=theirs.shape[1]).clamp(min=1)
    weights = 1 / counts[named].float()
    weights = weights / weights.sum()
    wanted = theirs.softmax(dim=1)
    bias = torch.zeros(mine.shape[1])
    for _ in range(BIAS_STEPS):
        # A step of iterative scaling: where the student says too little of a category, its bias rises.
        said = weights @ (mine + bias).softmax(dim=1)
        bias = bias + 0.5 * torch.log((weights @ wanted + 1e-6) / (said + 1e-6))
    return bias - bias.mean()
