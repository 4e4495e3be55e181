"""Training: one loop for teachers and students, resumable after every epoch; and the teacher's own training."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cloud_teacher import compute
from cloud_teacher.augmentation import Augmentation
from cloud_teacher.datasets import Dataset
from cloud_teacher.progress import Report, silent
from cloud_teacher.zoo import fast
from transfer.durable import write_atomic
from transfer.networks import Network
from transfer.questions import to_tensor
from transfer.spec import InputSpec, NetSpec, resnet_cifar

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]

MOMENTUM = 0.9
WARM_UP = 0.2
"""Share of all steps in which the learning rate rises to its peak; then it falls along a cosine to zero."""
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Schedule:
    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    """0 for teachers: it flattens what they say about the categories an image is not of (Mueller et al. 2019)."""
    seed: int = 0


AfterEpoch = Callable[[int, Network], None]
"""Called with the number of epochs done and the network in evaluation mode."""

LossOf = Callable[[Rows, int, np.random.Generator], Tensor]
"""The loss on these rows in this epoch; all chance comes from the generator."""


def optimise(
    net: Network,
    rows: int,
    loss_of: LossOf,
    schedule: Schedule,
    *,
    stage: str,
    cache_dir: Path | None = None,
    identity: str = "",
    report: Report = silent,
    after_epoch: AfterEpoch | None = None,
) -> None:
    """Minimise `loss_of` over all `rows` with SGD (Nesterov), in place, on the device of `cloud_teacher.compute`; the
    network comes back on the CPU.

    After every epoch all that is needed to go on is written to `cache_dir`; if one of the same `identity` is there,
    training goes on from it, with the same batches and augmentations as if it had never stopped.
    """
    steps = max(1, rows // schedule.batch_size)  # the rest of an epoch is dropped: a batch of one has no variance
    total = steps * schedule.epochs
    net.to(compute.device())
    optimizer = torch.optim.SGD(
        net.parameters(), schedule.learning_rate, MOMENTUM, weight_decay=schedule.weight_decay, nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step / total))
    parts: dict[str, Stateful] = {"net": net, "optimizer": optimizer, "scheduler": scheduler}
    checkpoint = cache_dir / f"checkpoint-{identity[:16]}.pt" if cache_dir else None
    first = _restore(checkpoint, identity, parts) if checkpoint else 0
    report(stage, first * steps, total)
    for epoch in range(first, schedule.epochs):
        random = np.random.default_rng((schedule.seed, epoch))
        order = random.permutation(rows)
        net.train()
        losses = 0.0
        for step in range(steps):
            batch = order[step * schedule.batch_size : (step + 1) * schedule.batch_size]
            loss = loss_of(batch, epoch, random)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            losses += float(loss.detach())
            done = epoch * steps + step + 1
            report(stage, done, total, f"epoch {epoch + 1}/{schedule.epochs}, loss {losses / (step + 1):.3f}")
        if not math.isfinite(losses):
            raise FloatingPointError(f"{stage}: the loss is no longer a number in epoch {epoch + 1}; lower the rate")
        if checkpoint:
            _store(checkpoint, identity, epoch + 1, parts)
        if after_epoch:
            after_epoch(epoch + 1, net.eval())
    net.cpu().eval()


def one_cycle(progress: float) -> float:
    """Learning rate as a share of its peak, from a twentieth up in a line and down to zero along a cosine."""
    if progress < WARM_UP:
        return 0.05 + 0.95 * progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


class Stateful(Protocol):
    """What a network, an optimizer and a scheduler have in common."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


def _store(path: Path, identity: str, epochs: int, parts: Mapping[str, Stateful]) -> None:
    file = io.BytesIO()
    torch.save({"identity": identity, "epochs": epochs} | {n: part.state_dict() for n, part in parts.items()}, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, file.getvalue())


def _restore(path: Path, identity: str, parts: Mapping[str, Stateful]) -> int:
    """Epochs already done; 0 where there is no checkpoint of this very training. Only tensors are unpickled."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return 0
    if not isinstance(state, dict) or state.get("identity") != identity:
        return 0
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["epochs"])


def identity_of(*parts: object) -> str:
    """Names one training among all others: a checkpoint of anything else must not be taken up."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@torch.no_grad()
def accuracy(net: Network, images: Images, targets: Rows, spec: InputSpec) -> float:
    """Share of images whose largest logit is the target's."""
    net.eval()
    right = 0
    for start in range(0, len(images), EVALUATION_BATCH):
        span = slice(start, start + EVALUATION_BATCH)
        guess = net(to_tensor(images[span], spec).to(next(net.parameters()).device)).logits.argmax(dim=1)
        right += int((guess.cpu().numpy() == targets[span]).sum())
    return right / max(1, len(images))


def train_teacher(
    dataset: Dataset,
    spec: NetSpec,
    schedule: Schedule,
    *,
    augmentation: Augmentation | None = None,
    threads: int | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> tuple[Network, float]:
    """A network trained on all of the data set's categories, and its accuracy on the test images.

    `augmentation`: of its images, every time they are shown; by default they are shifted and, if they may be, mirrored.
    Goes on from its checkpoint in `cache_dir`; once finished, the same call again returns the same network at once. The
    last epoch counts, not the best on test.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(schedule.seed)
    net = fast(Network(spec))
    targets = torch.from_numpy(dataset.train_targets)
    augmented = augmentation or Augmentation(flip=dataset.flip)

    def loss_of(rows: Rows, epoch: int, random: np.random.Generator) -> Tensor:
        images = augmented(dataset.train_images[rows], random)
        with compute.rounded():
            logits = net(to_tensor(images, dataset.input).to(compute.device())).logits.float()
        wanted = targets[torch.from_numpy(rows)].to(compute.device())
        return functional.cross_entropy(logits, wanted, label_smoothing=schedule.label_smoothing)

    identity = identity_of("teacher", spec, schedule, dataset.fingerprint, *([augmentation] if augmentation else []))
    optimise(
        net,
        len(dataset.train_images),
        loss_of,
        schedule,
        stage="train teacher",
        cache_dir=cache_dir,
        identity=identity,
        report=report,
    )
    return net, accuracy(net, dataset.test_images, dataset.test_targets, dataset.input)


def default_plan(dataset: Dataset) -> tuple[NetSpec, Schedule]:
    """A teacher and schedule that suit the data set on a small machine."""
    classes = len(dataset.labels)
    if dataset.name == "digits":
        return resnet_cifar(14, classes, stem_stride=2), Schedule(epochs=14, batch_size=64, learning_rate=0.1)
    if dataset.name in ("cifar10", "cifar100"):
        return resnet_cifar(20, classes), Schedule(epochs=30, batch_size=128, learning_rate=0.2)
    # A few minutes' worth: many passes over a thousand photographs, few over a hundred thousand.
    epochs = min(70, max(10, 84_000 // len(dataset.train_images)))
    return resnet_cifar(20, classes, stem_stride=2), Schedule(epochs, batch_size=32, learning_rate=0.1)
