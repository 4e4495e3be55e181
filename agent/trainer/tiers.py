"""Tiers `transfer` and `sparse`: gradient steps on the new samples that do not forget the old categories.

transfer (the paper, section 4.1): the last convolution of each group and the classifier move, minimising
l1*J1 + l2*sum(Jb) + l3*J3 against the teacher's logits and block maps. sparse: only the last group's last convolution
and the classifier move, over a cached prefix, and the student's own former logits stand in for the teacher's (J1).

Beyond the paper, in both: the old categories, of which no image is here, are present as pseudo-features drawn from the
bundle's class statistics, the new row starts at the new category's mean feature (or where a teacher put it), and
the features are held near what they were, so that the statistics of the old categories stay true. The closed-form head
of the result is computed last. A category without any sample is taught by J1, whose columns its own is one of, and Jb.
Batch norm keeps its statistics: batches of one category only would corrupt them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from agent.trainer import candidate, rows
from agent.trainer.checkpoint import Checkpoint
from agent.trainer.inputs import UNLABELLED, Inputs
from agent.trainer.teacher import Taught
from transfer import losses, preprocess
from transfer.head import ClassStatistics
from transfer.networks import Network, build, weights_of
from transfer.views import view

LAMBDA_1, LAMBDA_2, LAMBDA_3 = 0.2, 0.3, 1.0
"""Weights of J1, the Jb and J3. Ours: the paper names them and gives no values. Not tuned yet."""
LAMBDA_OLD = 1.0
"""Weight of the pseudo-features' cross entropy: the old categories' share in the classifier."""
LAMBDA_KEEP = 200.0
"""Weight of the squared drift of the features, relative to their mean square. On held-out training images of CIFAR-10,
truck new, two draws of 500: 50 ends at 94.0 % of ten categories (old 93.7, new 96.2), 100 at 94.0 (93.8, 96.0), 200 at
94.0 (93.8, 95.4), and without moving a feature (tier `head`) at 93.9 (94.0, 92.4)."""
CLASSIFIER_RATE = 10.0
"""The classifier's learning rate, as a multiple of the convolutions'."""
SERVE_BATCH = 64

Report = Callable[[str, int, int], None]


class Stopped(Exception):
    """SIGTERM: the checkpoint is written, the trainer may end."""


@dataclass(frozen=True)
class Task:
    """What is learned from: views uint8 of the samples that train, flattened [m, h, w, 3], where they come from:
    `rows` [m] (sample) and `numbers` [m] (view), and `targets` [m]: indices into the labels, or UNLABELLED."""

    images: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]


def learn(
    inputs: Inputs,
    taught: Taught | None,
    report: Report,
    stopping: Callable[[], bool],
) -> None:
    """Train on settled inputs, write the candidate. Resumes from its checkpoint.

    Raises Stopped, Unteachable, transfer.tflite.MismatchError.
    """
    torch.manual_seed(inputs.job.seed)
    statistics = inputs.model.statistics()
    net = _grown(inputs, taught)
    former = _grown(inputs, taught)
    moving = _moving(net, whole=inputs.job.tier == "transfer")
    if inputs.used.any():  # an unseen category may be learned without any sample
        _train(inputs, net, former, _task(inputs, taught), taught, statistics, moving, report, stopping)
    features = _features(net, inputs, inputs.images)
    report("write", 0, 1)
    learned = candidate.statistics(inputs, features)
    weights = rows.ended(inputs, weights_of(net), features, learned)
    with torch.no_grad():
        probe = build(net.spec, weights)(_tensor(candidate.probes(inputs), inputs))
    candidate.write(
        inputs,
        weights,
        learned,
        expected=(probe.logits.numpy(), probe.feature.numpy()),
    )
    report("write", 1, 1)


def _grown(inputs: Inputs, taught: Taught | None) -> Network:
    """The model with a row for each new category."""
    return build(candidate.grown(inputs), rows.begun(inputs, taught))


def _moving(net: Network, *, whole: bool) -> list[list[torch.nn.Parameter]]:
    """[convolutions, classifier] that train; everything else is frozen."""
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    last = net.last_convolutions()
    convolutions = [p for name in (last if whole else last[-1:]) for p in net.get_submodule(name).parameters()]
    classifier = list(net.last_linear.parameters())
    for parameter in (*convolutions, *classifier):
        parameter.requires_grad_(True)
    return [convolutions, classifier]


def _task(inputs: Inputs, taught: Taught | None) -> Task:
    views = range(inputs.job.views if taught is None else taught.logits.shape[1])
    rows, numbers = np.meshgrid(np.flatnonzero(inputs.used), np.array(list(views)), indexing="ij")
    flip = inputs.model.manifest.flip
    images = [
        view(inputs.images[r], inputs.job.sample_ids[r], int(v), flip=flip)
        for r, v in zip(rows.ravel(), numbers.ravel(), strict=True)
    ]
    return Task(np.stack(images), rows.ravel(), numbers.ravel(), inputs.assigned[rows.ravel()])


def _tensor(images: npt.NDArray[np.uint8], inputs: Inputs) -> Tensor:
    """NCHW, normalised."""
    return torch.from_numpy(preprocess.normalise(images, inputs.model.manifest.input)).permute(0, 3, 1, 2).contiguous()


def _features(net: Network, inputs: Inputs, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        parts = [
            net(_tensor(images[at : at + SERVE_BATCH], inputs)).feature for at in range(0, len(images), SERVE_BATCH)
        ]
    features: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return features


def _train(
    inputs: Inputs,
    net: Network,
    former: Network,
    task: Task,
    taught: Taught | None,
    statistics: ClassStatistics,
    moving: list[list[torch.nn.Parameter]],
    report: Report,
    stopping: Callable[[], bool],
) -> None:
    job = inputs.job
    rates = [job.learning_rate, job.learning_rate * CLASSIFIER_RATE]
    optimiser = torch.optim.SGD(
        [{"params": group, "lr": rate} for group, rate in zip(moving, rates, strict=True)], momentum=0.9, nesterov=True
    )
    checkpoint = Checkpoint(
        inputs.folder / "checkpoint.safetensors", net, optimiser, key=f"{job.tier}:{len(task.rows)}"
    )
    first_epoch = checkpoint.load()
    body = _Prefix(net, inputs, task, report) if job.tier == "sparse" else _Whole(net, inputs, task)
    anchors = _anchors(former, inputs, task)
    shared = _shared_columns(inputs, taught)
    report("train", first_epoch, job.epochs)
    for epoch in range(first_epoch, job.epochs):
        scale = 0.5 * (1 + np.cos(np.pi * epoch / job.epochs))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * scale
        order = np.random.default_rng([job.seed, epoch]).permutation(len(task.rows))
        pseudo, pseudo_targets = _pseudo(statistics, len(order), seed=job.seed * 1000 + epoch)
        for start in range(0, len(order), job.batch_size):
            if stopping():
                checkpoint.save(epoch)
                raise Stopped
            batch = order[start : start + job.batch_size]
            logits, feature, maps = body.forward(batch)
            loss = _loss(logits, feature, maps, anchors, batch, task, taught, shared)
            old = net.last_linear(pseudo[start : start + len(batch)])
            loss = loss + LAMBDA_OLD * functional.cross_entropy(old, pseudo_targets[start : start + len(batch)])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        checkpoint.save(epoch + 1)
        report("train", epoch + 1, job.epochs)


@dataclass(frozen=True)
class _Anchors:
    """What the model said before: logits [m, C + 1], features [m, d] of every view, and the features' mean square."""

    logits: Tensor
    feature: Tensor
    energy: float


def _anchors(former: Network, inputs: Inputs, task: Task) -> _Anchors:
    with torch.no_grad():
        parts = [
            former(_tensor(task.images[at : at + SERVE_BATCH], inputs))
            for at in range(0, len(task.images), SERVE_BATCH)
        ]
    feature = torch.cat([part.feature for part in parts])
    return _Anchors(torch.cat([part.logits for part in parts]), feature, float(feature.square().mean()) + 1e-8)


def _shared_columns(inputs: Inputs, taught: Taught | None) -> tuple[list[int], list[int]]:
    """Columns of the student and of the teacher (its own former self where there is none) with the same label."""
    if taught is None:
        known = list(range(inputs.known))
        return known, known
    pairs = [(i, taught.labels.index(label)) for i, label in enumerate(inputs.labels) if label in taught.labels]
    return [i for i, _ in pairs], [j for _, j in pairs]


def _pseudo(statistics: ClassStatistics, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pseudo-features of the old categories, shuffled: as many as there are views of the new one, over all of them."""
    each = -(-count // len(statistics.labels))
    features = np.concatenate([statistics.sample(k, each, seed * 100_003 + k) for k in range(len(statistics.labels))])
    targets = np.repeat(np.arange(len(statistics.labels)), each)
    order = np.random.default_rng(seed).permutation(len(targets))
    return torch.from_numpy(features[order]), torch.from_numpy(targets[order])


def _loss(
    logits: Tensor,
    feature: Tensor,
    maps: list[Tensor],
    anchors: _Anchors,
    batch: npt.NDArray[np.int64],
    task: Task,
    taught: Taught | None,
    shared: tuple[list[int], list[int]],
) -> Tensor:
    mine, theirs = shared
    if taught is None:
        wanted = anchors.logits[torch.from_numpy(batch)]
    else:
        wanted = torch.from_numpy(taught.logits[task.rows[batch], task.numbers[batch]])
    targets = torch.from_numpy(task.targets[batch])
    labelled = targets != UNLABELLED
    drift = (feature - anchors.feature[torch.from_numpy(batch)]).square().mean() / anchors.energy
    loss = LAMBDA_KEEP * drift
    if labelled.any():
        loss = loss + LAMBDA_3 * losses.j3(logits[labelled], targets[labelled])
    if mine:
        loss = loss + LAMBDA_1 * losses.j1(logits[:, mine], wanted[:, theirs])
    if taught is not None:
        for group, kept in taught.maps.items():
            there = torch.from_numpy(kept[task.rows[batch], task.numbers[batch]])
            rest = torch.from_numpy(taught.residuals[group][task.rows[batch], task.numbers[batch]])
            loss = loss + LAMBDA_2 * losses.jb(losses.pooled(maps[group], there.shape[-1]), there, rest)
    return loss


class _Whole:
    """The network from its images on. Autograd starts by itself at the first weight that moves."""

    def __init__(self, net: Network, inputs: Inputs, task: Task) -> None:
        self._net, self._inputs, self._task = net, inputs, task

    def forward(self, batch: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, list[Tensor]]:
        out = self._net(_tensor(self._task.images[batch], self._inputs))
        return out.logits, out.feature, [blocks[-1] for blocks in out.blocks]


class _Prefix:
    """The network from its last convolution on, over what that convolution and the sum behind it take (its input and
    the shortcut), computed once and kept as int8."""

    def __init__(self, net: Network, inputs: Inputs, task: Task, report: Report) -> None:
        self._net = net
        self._position, needed = net.prefix(net.last_convolutions()[-1])
        parts: dict[str, list[Tensor]] = {name: [] for name in needed}
        with torch.no_grad():
            for at in range(0, len(task.images), SERVE_BATCH):
                report("prefix", at, len(task.images))
                values = net.before(_tensor(task.images[at : at + SERVE_BATCH], inputs), self._position)
                for name in needed:
                    parts[name].append(values[name])
        report("prefix", len(task.images), len(task.images))
        self._maps = {name: _quantised(torch.cat(parts.pop(name))) for name in needed}

    def forward(self, batch: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, list[Tensor]]:
        rows = torch.from_numpy(batch)
        out = self._net.after({name: maps[rows] * scale for name, (maps, scale) in self._maps.items()}, self._position)
        return out.logits, out.feature, []


def _quantised(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps >= 0 or of either sign as int8 with one scale."""
    scale = maps.abs().max().clamp(min=1e-8) / 127
    return (maps / scale).round().to(torch.int8), scale
