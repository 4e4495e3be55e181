"""Tiers `transfer` and `sparse`: gradient steps on the new samples that do not forget the old categories.

transfer (the paper, section 4.1): the last convolution of each group and the classifier move, minimising
l1*J1 + l2*sum(Jb) + l3*J3 against the teacher's logits and block maps. sparse: only the last group's last convolution
and the classifier move, and the student's own former logits stand in for the teacher's (J1).

Beyond the paper, in both: the old categories, of which no image is here, are present as pseudo-features drawn from the
bundle's class statistics, the new row starts at the new category's mean feature (or where a teacher put it), and
the features are held near what they were, so that the statistics of the old categories stay true. The closed-form head
of the result is computed last. A category without any sample is taught by J1, whose columns its own is one of, and Jb.
Batch norm keeps its statistics: batches of one category only would corrupt them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from agent.job import Tier
from agent.trainer import candidate, rows
from agent.trainer.checkpoint import Checkpoint
from agent.trainer.inputs import Inputs, Unteachable
from agent.trainer.lesson import Lesson, Old, RanAwayError
from agent.trainer.teacher import Taught
from transfer.class_statistics import ClassStatistics
from transfer.folded import folded
from transfer.networks import Network, build, weights_of
from transfer.questions import to_tensor

GROUPS: dict[Tier, slice] = {"transfer": slice(None), "sparse": slice(-1, None)}
"""Whose last convolution moves."""
SERVE_BATCH = 64

Images = npt.NDArray[np.uint8]

Report = Callable[[str, int, int], None]


class Stopped(Exception):
    """SIGTERM: the checkpoint is written, the trainer may end."""


def learn(
    inputs: Inputs,
    taught: Taught | None,
    report: Report,
    stopping: Callable[[], bool],
) -> None:
    """Train on settled inputs, write the candidate. Resumes from its checkpoint.

    Raises Stopped, Unteachable, transfer.tflite.MismatchError.
    """
    net = grown(inputs, taught)
    if inputs.used.any():  # an unseen category may be learned without any sample
        _train(inputs, lesson(inputs, taught, net, report), report, stopping)
    features = _features(net, inputs, inputs.images)
    mirrored = _features(net, inputs, inputs.images[:, :, ::-1]) if inputs.model.manifest.flip else None
    report("write", 0, 1)
    learned = candidate.statistics(inputs, features, mirrored)
    weights = rows.ended(inputs, weights_of(net), features, learned)
    with torch.no_grad():
        probe = build(net.spec, weights)(to_tensor(candidate.probes(inputs), inputs.model.manifest.input))
    candidate.write(
        inputs,
        weights,
        learned,
        expected=(probe.logits.numpy(), probe.feature.numpy()),
    )
    report("write", 1, 1)


def grown(inputs: Inputs, taught: Taught | None) -> Network:
    """The model with a row for each new category."""
    return build(candidate.grown(inputs), rows.begun(inputs, taught))


def lesson(inputs: Inputs, taught: Taught | None, net: Network, report: Report) -> Lesson:
    """What the job's tier moves of `net`, before the first step."""
    return Lesson(inputs, taught, net, GROUPS[inputs.job.tier], lambda done, total: report("prefix", done, total))


def pseudo(statistics: ClassStatistics, count: int, seed: int) -> Old:
    """Pseudo-features of the old categories, shuffled: as many as there are views of the new one, over all of them."""
    each = -(-count // len(statistics.labels))
    features = np.concatenate([statistics.sample(k, each, seed * 100_003 + k) for k in range(len(statistics.labels))])
    targets = np.repeat(np.arange(len(statistics.labels)), each)
    order = np.random.default_rng(seed).permutation(len(targets))
    return Old(torch.from_numpy(features[order]), torch.from_numpy(targets[order]))


def _train(inputs: Inputs, learning: Lesson, report: Report, stopping: Callable[[], bool]) -> None:
    """All epochs, more slowly where the configured rate is too much for this network."""
    path = inputs.folder / "checkpoint.safetensors"
    checkpoint = Checkpoint(path, learning.optimiser, key=f"{inputs.job.tier}:{len(learning.task)}")
    first_epoch = checkpoint.load()
    while True:
        try:
            return _descend(inputs, learning, checkpoint, first_epoch, report, stopping)
        except RanAwayError:
            if not learning.begin_again():
                raise Unteachable("the features cannot be held however small the steps: lower the rate") from None
            first_epoch = 0


def _descend(
    inputs: Inputs,
    learning: Lesson,
    checkpoint: Checkpoint,
    first_epoch: int,
    report: Report,
    stopping: Callable[[], bool],
) -> None:
    job, statistics, count = inputs.job, inputs.model.statistics(), len(learning.task)
    report("train", first_epoch, job.epochs)
    for epoch in range(first_epoch, job.epochs):
        share = 0.5 * (1 + np.cos(np.pi * epoch / job.epochs))
        order = np.random.default_rng([job.seed, epoch]).permutation(count)
        old = pseudo(statistics, count, seed=job.seed * 1000 + epoch)
        for start in range(0, count, job.batch_size):
            if stopping():
                checkpoint.save(epoch)
                raise Stopped
            batch = order[start : start + job.batch_size]
            span = slice(start, start + len(batch))
            learning.step(batch, Old(old.features[span], old.targets[span]), share)
        checkpoint.save(epoch + 1)
        report("train", epoch + 1, job.epochs)


def _features(net: Network, inputs: Inputs, images: Images) -> npt.NDArray[np.float32]:
    """[n, d], of images of the model's size."""
    twin, size = folded(net), inputs.model.manifest.input
    with torch.no_grad():
        spans = (np.ascontiguousarray(images[at : at + SERVE_BATCH]) for at in range(0, len(images), SERVE_BATCH))
        parts = [twin(to_tensor(span, size)).feature for span in spans]
    features: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return features
