"""Table 6: seconds of a round and of inference, of every size of student, beside RILOD on the uncompressed network.

`seconds` are those of one round on the device with the new images of one category (500 of CIFAR-10); the teacher's
answers, which the cloud gives, are not among them. `batch_seconds`: inference of BATCH images by the .tflite model on
one core. `trainable`: weights that the round changes by gradient steps; tier `head` makes none.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from benchmarks import compression, rounds
from benchmarks.cells import Cell
from benchmarks.compression import Size
from benchmarks.learner import judged, new_images
from benchmarks.measured import Measured
from benchmarks.methods import METHODS, learner, matters
from benchmarks.setting import Setting
from benchmarks.students import Knowing, key, recipe, student
from benchmarks.table import Table
from cloud_teacher.distil import Recipe, features_weight
from cloud_teacher.progress import Report
from transfer import tflite
from transfer.blueprint import parameters
from transfer.graph import network_graph
from transfer.networks import Network, weights_of
from transfer.spec import NetSpec

VERSION = 1
BATCH = 128
TRIES = 3
TIERS = ("default", "head", "sparse", "transfer")
RILOD = "rilod-teacher"
TABLE = Table("Seconds of a round and of inference", ("size", "teacher", "trainable", "batch_seconds"))


def cells(setting: Setting) -> list[Cell]:
    """Every tier with every size of student, and RILOD on the uncompressed network."""
    sizes = _sizes(setting)
    works = [(size, name) for size in sizes for name in TIERS] + [(sizes[0], RILOD)]
    return [
        Cell(
            name if name == RILOD else compression.named(name, size, setting),
            seed,
            partial(_measure, setting, name, knowing, recipe, seed),
            (VERSION, key(setting, recipe, knowing), setting.plan.new_images, matters(setting, name, knowing), threads),
            {"size": "uncompressed" if name == RILOD else size.name, "teacher": knowing},
        )
        for size, name in works
        for knowing in METHODS[name].knowing[:1]
        for threads in [setting.threads]
        for seed in setting.seed_range
        for recipe in [_recipe(setting, size, seed)]
    ]


def _sizes(setting: Setting) -> tuple[Size, ...]:
    """Those of the scale, the first being that of the student that goes on to learn."""
    found = compression.budgets(setting)
    return (compression.LEARNER, *found[1:]) if found[0] == compression.SMALL else found


def _recipe(setting: Setting, size: Size, seed: int) -> Recipe:
    """The scale's student, of another size."""
    usual = recipe(setting, setting.known_without(setting.new_category), seed)
    weight = features_weight(setting.teacher.widths, size.depth)
    return replace(usual, depth=size.depth, most_parameters=size.most_parameters, features_weight=weight)


def _measure(setting: Setting, name: str, knowing: Knowing, recipe: Recipe, seed: int, report: Report) -> Measured:
    learning = learner(setting, name, knowing, student(setting, recipe, knowing), seed)
    learning.learn(setting.new_category, new_images(setting, setting.new_category, seed))
    found = judged(learning, setting.dataset, (setting.new_category,))
    tier = rounds.default_tier() if name == "default" else name
    extra = {
        "trainable": trainable(learning.net, tier),
        "batch_seconds": batch_seconds(learning.net, *compression.side(setting)),
    }
    return Measured(
        params=found.params,
        macs=found.macs,
        old=found.old,
        new=found.new,
        all=found.all,
        harmonic=found.harmonic,
        seconds=found.seconds,
        extra={**found.extra, **extra},
    )


def trainable(spec: NetSpec, tier: str) -> int:
    """Weights that a round of this tier moves; of anything that is no tier, all."""
    if tier not in ("head", "sparse", "transfer"):
        return parameters(spec)
    if tier == "head":
        return 0
    net = Network(spec)
    last = net.last_convolutions()
    moving = [*(last if tier == "transfer" else last[-1:]), net.blueprint.logits]
    return sum(weight.numel() for name in moving for weight in net.get_submodule(name).parameters())


@lru_cache(maxsize=32)
def batch_seconds(spec: NetSpec, height: int, width: int) -> float:
    """Of the fastest of TRIES: what else the machine does only makes it slower. The weights do not matter."""
    model = tflite.write(network_graph(spec, weights_of(Network(spec).eval()), height, width))
    images = np.random.default_rng(0).standard_normal((BATCH, height, width, 3)).astype(np.float32)
    taken = []
    for _ in range(TRIES):
        began_s = time.perf_counter()
        tflite.run(model, images)
        taken.append(time.perf_counter() - began_s)
    return min(taken)
