"""Learning by gradient steps on the new images alone; what distinguishes the baselines is their loss.

All share this: SGD with Nesterov momentum, the rate falling along a cosine, EPOCHS passes over the images, each pass
another view of them (`transfer.views`, so that a teacher can be asked about it beforehand), frozen batch norms.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.baselines.choice import Choice
from benchmarks.baselines.start import Images, Start, grown, outputs
from cloud_teacher import compute
from cloud_teacher.zoo import Teacher
from transfer.activations import Activations
from transfer.networks import Network, Outputs
from transfer.questions import Question, to_tensor
from transfer.spec import NetSpec
from transfer.views import view
from transfer.wire import BlockWanted

EPOCHS = 12
VIEWS = 4
BATCH = 64
MOMENTUM = 0.9

Moving = Literal["all", "last"]
"""last: the last convolution of each group and the classifier, as in the paper."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """One category's images [n, h, w, 3] and who teaches it. labels: the old ones, then the new one. former: the
    network before the first step, grown by the new row, frozen. helpers: modules of the loss that train with `net`."""

    net: Network
    former: Network
    teacher: Teacher
    labels: tuple[str, ...]
    images: Images
    start: Start
    choice: Choice
    helpers: nn.ModuleList = field(default_factory=nn.ModuleList)

    @property
    def known(self) -> int:
        return len(self.labels) - 1

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in self.images)

    def answers(self, blocks: Sequence[BlockWanted]) -> Activations:
        """What the teacher says of every view, its maps whole: nothing is pooled or rounded."""
        side = max(self.images.shape[1:3])
        question = Question(self.images, self.sample_ids, range(VIEWS), self.start.flip, blocks, pool=side)
        return self.teacher.answer([question])[0]

    def shared(self) -> tuple[list[int], list[int]]:
        """Columns of the network's logits and of the teacher's that are of the same category."""
        theirs = self.teacher.labels
        both = [(at, theirs.index(label)) for at, label in enumerate(self.labels) if label in theirs]
        return [mine for mine, _ in both], [their for _, their in both]


@dataclass(frozen=True, eq=False)
class Batch:
    """x: view number `view` of the lesson's images `rows`, as the networks take it; out: what the network makes of it;
    targets [b]; progress: the share of all steps that is done."""

    rows: npt.NDArray[np.int64]
    view: int
    x: Tensor
    out: Outputs
    targets: Tensor
    progress: float


Loss = Callable[[Batch], Tensor]
MakeLoss = Callable[[Lesson], Loss]


class GradientLearner:
    """See `learner.Learner`. `make_loss` is called once a category; a teacher is asked there, and its time is not the
    device's."""

    def __init__(
        self,
        start: Start,
        teacher: Teacher,
        seed: int,
        choice: Choice,
        make_loss: MakeLoss,
        *,
        moving: Moving = "all",
    ) -> None:
        self._start, self._teacher, self._seed, self._choice = start, teacher, seed, choice
        self._make_loss, self._moving = make_loss, moving
        self.seconds = 0.0

    @property
    def labels(self) -> tuple[str, ...]:
        return self._start.labels

    @property
    def net(self) -> NetSpec:
        return self._start.net.spec

    def learn(self, category: str, images: Images) -> None:
        began_s = time.monotonic()
        torch.manual_seed(self._seed)
        net = grown(self._start, images, self._choice.row, self._seed)
        former = copy.deepcopy(net).requires_grad_(False)
        labels = (*self.labels, category)
        lesson = Lesson(net, former, self._teacher, labels, images, self._start, self._choice)
        self.seconds += time.monotonic() - began_s
        loss_of = self._make_loss(lesson)
        began_s = time.monotonic()
        _descend(lesson, loss_of, moving(net, self._moving), self._seed)
        self._start = replace(self._start, net=net.cpu(), labels=labels)
        self.seconds += time.monotonic() - began_s

    def predict(self, images: Images) -> npt.NDArray[np.int64]:
        logits = outputs(self._start.net, images, self._start.input)[0]
        return np.asarray(logits[:, : len(self.labels)].argmax(dim=1).numpy(), np.int64)


def moving(net: Network, which: Moving) -> list[nn.Parameter]:
    """The parameters that train; all others are frozen."""
    prefixes = ("",) if which == "all" else (*(f"{n}." for n in net.last_convolutions()), f"{net.blueprint.logits}.")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def descend(parameters: Sequence[nn.Parameter], steps: int, rate: float, loss_at: Callable[[int], Tensor]) -> None:
    """`steps` steps of SGD down the loss, the rate falling from `rate` along a cosine. Raises FloatingPointError."""
    optimiser = torch.optim.SGD(list(parameters), rate, MOMENTUM, nesterov=True)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = loss_at(step)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is no longer a number at step {step}; lower the rate {rate:g}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def batches(count: int, epoch: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """All of `count` rows in the epoch's order."""
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return [order[at : at + BATCH] for at in range(0, count, BATCH)]


def _descend(lesson: Lesson, loss_of: Loss, parameters: list[nn.Parameter], seed: int) -> None:
    net, ids = lesson.net, lesson.sample_ids
    plan = [(epoch % VIEWS, rows) for epoch in range(EPOCHS) for rows in batches(len(ids), epoch, seed)]

    def loss_at(step: int) -> Tensor:
        number, rows = plan[step]
        images = [view(lesson.images[row], ids[row], number, flip=lesson.start.flip) for row in rows]
        x = to_tensor(np.stack(images), lesson.start.input).to(compute.device())
        targets = torch.full((len(rows),), lesson.known, device=x.device)
        return loss_of(Batch(rows, number, x, net(x), targets, step / len(plan)))

    descend([*parameters, *lesson.helpers.parameters()], len(plan), lesson.choice.rate, loss_at)
