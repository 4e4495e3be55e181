"""Students by size, trained on all categories: what tables 1, 2, 3 and 7 have in common.

Unlike a device's bundle, nothing is set aside here: as in published figures, a student is trained on all training
images, and every rival on the same ones, as long and with the same schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.judge import percent
from benchmarks.measured import Measured
from benchmarks.recipes import CPU
from benchmarks.setting import Setting
from benchmarks.stopwatch import Stopwatch
from cloud_teacher import compute
from cloud_teacher.datasets import Dataset
from cloud_teacher.distil import LABELS_WEIGHT, LOGITS_WEIGHT, Recipe, choose, distil, features_weight
from cloud_teacher.progress import Report
from cloud_teacher.train import Rows, identity_of
from transfer.blueprint import macs, parameters
from transfer.networks import Network
from transfer.plan import Depth, Plan
from transfer.questions import to_tensor
from transfer.spec import NetSpec

STAGE = "train student"
BATCH = 256


@dataclass(frozen=True)
class Size:
    """name: as it ends a method's name. Widths by `threshold` (P of eq. 2) or to fill `most_parameters`."""

    name: str
    depth: Depth
    threshold: float | None = None
    most_parameters: int | None = None


SMALL, SMALLEST = Size("0.27m", 3, most_parameters=270_000), Size("0.08m", 2, most_parameters=80_000)
"""The sizes of the targets: that of a plain ResNet-20 (269,722 parameters), and a few more than that of a plain
ResNet-8. Two blocks a group, each a good third thinner than the teacher's, are better than one and as good as three: 12
epochs give 87.7, 85.2 and 87.4 % on ten categories (ResNet-56 and CIFAR-10, 5,000 training images held out)."""
ONE_BLOCK = Size("0.08m-1b", 1, most_parameters=80_000)
"""As many parameters in one block a group, which is ResNet-8's shape."""
LEARNER = Size("0.29m", CPU.depth)
"""What goes on to learn on a device at scale cpu: two more blocks, where they are cheap."""
PAPER_SIZES = tuple(
    Size(name, 1, most_parameters=count)
    for name, count in (("2.00m", 2_003_000), ("1.42m", 1_425_000), ("0.60m", 602_000), ("0.23m", 231_000))
)
"""ResNet 1 to 4: 2.00, 1.42, 0.60 and 0.23 M, each filled by uniform widths."""
THRESHOLDS = (1.0, 0.9, 0.8, 0.7)


def budgets(setting: Setting) -> tuple[Size, ...]:
    """The sizes that students of this scale are made in; the first is that of the method `default`."""
    if setting.quick:
        return (Size("half", 1, most_parameters=_half(setting.teacher.spec)),)
    return PAPER_SIZES if setting.scale == "paper" else (SMALL, SMALLEST)


def shapes(setting: Setting) -> tuple[Size, ...]:
    """The budgets, each in every depth that is of interest."""
    found = budgets(setting)
    return (*found, ONE_BLOCK) if SMALLEST in found else found


def thresholds(setting: Setting) -> tuple[Size, ...]:
    """The paper's own way to a size."""
    chosen, depth = THRESHOLDS[-1:] if setting.quick else THRESHOLDS, budgets(setting)[0].depth
    return tuple(Size(f"p{threshold}", depth, threshold=threshold) for threshold in chosen)


def named(method: str, size: Size, setting: Setting) -> str:
    """`default` of the first budget, and of the student that goes on to learn, is simply called that."""
    usual = (budgets(setting)[0], LEARNER)
    return method if method == "default" and size in usual else f"{method}-{size.name}"


def recipe(setting: Setting, size: Size, seed: int) -> Recipe:
    """The shipped way to a student of this size that knows all categories."""
    plan = setting.plan
    return Recipe(
        known=setting.dataset.labels,
        schedule=replace(plan.compressed or plan.student, seed=seed),
        depth=size.depth,
        threshold=size.threshold,
        most_parameters=size.most_parameters,
        views=plan.compressed_views or plan.views,
        holdout_per_class=0,
        features_weight=features_weight(setting.teacher.widths, size.depth),
    )


@dataclass(frozen=True, eq=False)
class Trained:
    """seconds: of its training, over all the times it was started; the teacher's answers, which are cached and shared,
    are not counted."""

    net: Network
    chosen: Plan
    seconds: float


def trained(setting: Setting, data: Dataset, recipe: Recipe, report: Report) -> Trained:
    """The recipe's student of all training images of `data`; the same again is found in the cache."""
    chosen = choose(setting.teacher, data.train_images, recipe)
    watch = stopwatch(setting, report, data.fingerprint, matters(recipe))
    rows = np.arange(len(data.train_images))
    net = distil(setting.teacher, data, rows, chosen, recipe, setting.cache, watch.report, watch.keep)
    return Trained(net, chosen, watch.seconds)


def matters(recipe: Recipe) -> tuple[object, ...]:
    """What a training by this recipe depends on, for `Cell.matters`."""
    return recipe, LOGITS_WEIGHT, recipe.features_weight, LABELS_WEIGHT


def stopwatch(setting: Setting, report: Report, *matters: object) -> Stopwatch:
    name = identity_of("seconds", setting.teacher.digest, *matters)[:16]
    return Stopwatch(setting.cache / f"seconds-{name}.txt", STAGE, report)


def predictions(net: Network, setting: Setting, data: Dataset) -> Rows:
    """Of the test images of `data`: the largest logit, as an index into the data set's labels."""
    logits = test_logits(net, setting, data)
    said: Rows = logits[:, [setting.teacher.labels.index(label) for label in data.labels]].argmax(axis=1)
    return said


def test_logits(net: Network, setting: Setting, data: Dataset) -> npt.NDArray[np.float32]:
    """[n, C] of the test images, columns in the order of the teacher's labels."""
    spans = [data.test_images[at : at + BATCH] for at in range(0, len(data.test_images), BATCH)]
    net.eval().to(compute.device())
    with torch.no_grad():
        parts = [
            net(to_tensor(span, setting.teacher.input).to(compute.device())).logits.cpu().numpy() for span in spans
        ]
    net.cpu()
    return np.concatenate(parts)


def measured(setting: Setting, net: Network, seconds: float | None, **extra: float | int | str | None) -> Measured:
    """The network's size and its accuracy on all test images."""
    said = predictions(net, setting, setting.dataset)
    return Measured(
        params=parameters(net.spec),
        macs=macs(net.spec, *side(setting)),
        all=percent(said == setting.dataset.test_targets),
        seconds=seconds,
        extra=extra,
    )


def side(setting: Setting) -> tuple[int, int]:
    return setting.teacher.input.height, setting.teacher.input.width


def _half(spec: NetSpec) -> int:
    return parameters(spec) // 2
