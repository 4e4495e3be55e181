"""What a user would do without us, in plain PyTorch on one thread: each learns a new category with the network and the
images that it is given, and its training is timed.

Every rival sees EPOCHS passes. Those that train the network see another view of each image (`transfer.views`: shifted,
mirrored) in each of VIEWS passes, in turns; the views are made before the clock starts.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.baselines import rilod
from benchmarks.baselines.choice import Choice
from benchmarks.baselines.gradient import Batch, Lesson, batches, descend
from benchmarks.baselines.start import Start, grown, outputs
from benchmarks.device.plain import FineTuning
from benchmarks.students import Student
from transfer.networks import Network
from transfer.questions import to_tensor
from transfer.views import view

Images = npt.NDArray[np.uint8]
Targets = npt.NDArray[np.int64]
Predict = Callable[[Images], Targets]

EPOCHS, VIEWS = 50, 4
REFIT_BATCH, REFIT_RATE = 32, 1e-3


@dataclass(frozen=True, eq=False)
class Task:
    """The new category's images; `stored` ones of the old categories that a user has kept, and their targets; the label
    of the new category follows those of `start`."""

    start: Start
    images: Images
    stored: Images
    stored_targets: Targets

    @property
    def everything(self) -> tuple[Images, Targets]:
        new = np.full(len(self.images), len(self.start.labels), np.int64)
        return np.concatenate([self.images, self.stored]), np.concatenate([new, self.stored_targets])


@dataclass(frozen=True)
class Learned:
    """`seconds` of EPOCHS epochs, of which `epochs` were run; where these are fewer, seconds are extrapolated."""

    predict: Predict
    seconds: float
    epochs: int


def fine_tuned(task: Task, rate: float, epochs: int = EPOCHS) -> Learned:
    """(a) Every weight, batch norms in training mode, on new and stored images; the rate falls along a cosine."""
    net = grown(task.start, task.images, "mean feature", 0).cpu()
    net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    images, targets = task.everything
    views = np.concatenate([_views(images, number, task.start.flip) for number in range(VIEWS)])
    training = FineTuning(net, views, np.tile(targets, VIEWS), task.start.input, rate)
    torch.manual_seed(0)
    began_s = time.perf_counter()
    for epoch in range(epochs):
        for group in training.optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        for rows in batches(len(images), epoch, seed=0):
            training.step(rows + epoch % VIEWS * len(images))
    seconds = time.perf_counter() - began_s
    return Learned(_by_network(net.eval(), task), seconds * EPOCHS / epochs, epochs)


def rilod_of(task: Task, student: Student, choice: Choice, epochs: int = EPOCHS) -> Learned:
    """(b) RILOD (Li et al. 2019) on the network of `task.start`, from the new images alone."""
    net = grown(task.start, task.images, choice.row, 0).cpu()
    former = copy.deepcopy(net).requires_grad_(False)
    labels = (*task.start.labels, "new")
    loss_of = rilod.loss(Lesson(net, former, student.teacher, labels, task.images, task.start, choice))
    views = [_views(task.images, number, task.start.flip) for number in range(VIEWS)]
    plan = [(epoch, rows) for epoch in range(epochs) for rows in batches(len(task.images), epoch, seed=0)]

    def loss_at(step: int) -> Tensor:
        epoch, rows = plan[step]
        x = to_tensor(views[epoch % VIEWS][rows], task.start.input)
        targets = torch.full((len(rows),), len(task.start.labels))
        return loss_of(Batch(rows, epoch % VIEWS, x, net(x), targets, step / len(plan)))

    began_s = time.perf_counter()
    descend(list(net.requires_grad_(True).parameters()), len(plan), choice.rate, loss_at)
    seconds = time.perf_counter() - began_s
    return Learned(_by_network(net, task), seconds * EPOCHS / epochs, epochs)


def refitted(task: Task) -> Learned:
    """(c) A new classifier on the frozen network's features, as examples for small devices do it: the features are
    computed once, then Adam fits the layer in batches of REFIT_BATCH."""
    images, targets = task.everything
    began_s = time.perf_counter()
    features, truth = outputs(task.start.net, images, task.start.input)[1], torch.from_numpy(targets)
    torch.manual_seed(0)
    layer = nn.Linear(features.shape[1], len(task.start.labels) + 1)
    optimiser = torch.optim.Adam(layer.parameters(), REFIT_RATE)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(truth)), REFIT_BATCH):
            optimiser.zero_grad()
            functional.cross_entropy(layer(features[rows]), truth[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    seconds = time.perf_counter() - began_s

    @torch.no_grad()
    def predict(pictures: Images) -> Targets:
        said = layer(outputs(task.start.net, pictures, task.start.input)[1]).argmax(dim=1)
        return np.asarray(said.numpy(), np.int64)

    return Learned(predict, seconds, EPOCHS)


def _views(images: Images, number: int, flip: bool) -> Images:
    names = (hashlib.sha256(image.tobytes()).hexdigest() for image in images)
    return np.stack([view(image, name, number, flip=flip) for image, name in zip(images, names, strict=True)])


def _by_network(net: Network, task: Task) -> Predict:
    def predict(images: Images) -> Targets:
        logits = outputs(net, images, task.start.input)[0][:, : len(task.start.labels) + 1]
        return np.asarray(logits.argmax(dim=1).numpy(), np.int64)

    return predict
