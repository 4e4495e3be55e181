"""Table 1: how small a student may be. Every size by four ways, each trained as long on the same images.

zeros     the paper: as many filters as eq. 1-2 say, or uniform widths up to a budget; taught by the teacher
gradient  of all blocks, coupled channels by a gradient-aware score under one budget; taught by the teacher
depgraph  of all blocks, by Torch-Pruning's dependency graph (Fang et al. 2023), to the budget; taught by the teacher
plain     the shape that `zeros` found, from random weights, taught by the labels
default   what `understudy teacher compress` does

Sizes end the names; `-1b` is one block a group. DepGraph cannot follow channels through shortcuts without parameters:
there it has 1x1 convolutions, which are counted.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks import compression
from benchmarks.cells import Cell
from benchmarks.compression import Size
from benchmarks.judge import percent
from benchmarks.measured import Measured
from benchmarks.peers.plain import plain
from benchmarks.setting import Setting
from benchmarks.table import Table
from cloud_teacher.distil import FEATURES_WEIGHT, PRUNING_BATCH, Recipe, choose
from cloud_teacher.progress import Report
from transfer.blueprint import parameters
from transfer.limit import Limit
from transfer.plan import shrunk_spec
from transfer.questions import to_tensor

VERSION = 1
PEERS = ("gradient", "depgraph", "plain")
TABLE = Table("Compression: sizes, ways to them, accuracy on all categories", ("size", "inherits", "taught"))


def cells(setting: Setting) -> list[Cell]:
    """The teacher; then every size by every way."""
    found = [Cell("teacher", 0, partial(_teacher, setting), (VERSION,))]
    for size in (*compression.shapes(setting), *compression.thresholds(setting)):
        for way in _ways(size):
            for seed in setting.seed_range:
                recipe = changed(compression.recipe(setting, size, seed), way)
                found.append(
                    Cell(
                        compression.named(way, size, setting),
                        seed,
                        partial(_depgraph if way == "depgraph" else _ours, setting, recipe, way),
                        (VERSION, compression.matters(recipe)),
                        {"size": size.name, "inherits": _yes(recipe.inherit), "taught": recipe.taught},
                    )
                )
    return found


def _ways(size: Size) -> tuple[str, ...]:
    if size == compression.ONE_BLOCK:  # those that prune all blocks are there already, with the same budget
        return ("default", "plain")
    return ("zeros", *PEERS) if size.most_parameters is None else ("default", "zeros", *PEERS)


def changed(recipe: Recipe, way: str) -> Recipe:
    """The recipe as this way has it. `default` is the recipe as it comes."""
    if way == "default":
        return recipe
    if way == "plain":
        return plain(replace(recipe, score="zeros"))
    if way == "zeros":
        return replace(recipe, score="zeros")
    # These two keep all blocks, whatever the size.
    return replace(recipe, score="gradient" if way == "gradient" else "zeros", features_weight=FEATURES_WEIGHT)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _teacher(setting: Setting, report: Report) -> Measured:
    return compression.measured(setting, setting.teacher.net, None)


def _ours(setting: Setting, recipe: Recipe, way: str, report: Report) -> Measured:
    if way == "gradient" and recipe.threshold is not None:
        recipe = replace(recipe, threshold=None, most_parameters=_as_large(setting, recipe))
    if way == "gradient":
        recipe = replace(recipe, depth=max(len(blocks) for blocks in setting.teacher.spec.groups))
    made = compression.trained(setting, setting.dataset, recipe, report)
    return compression.measured(setting, made.net, made.seconds)


def _as_large(setting: Setting, recipe: Recipe) -> int:
    """The parameters of the student that the threshold comes to."""
    by_zeros = choose(setting.teacher, setting.dataset.train_images, replace(recipe, score="zeros"))
    return parameters(shrunk_spec(setting.teacher.spec, by_zeros))


def _depgraph(setting: Setting, recipe: Recipe, way: str, report: Report) -> Measured:
    from benchmarks.peers.taught import taught
    from benchmarks.peers.torch_pruning import pruned

    teacher, data = setting.teacher, setting.dataset
    most = recipe.most_parameters or _as_large(setting, recipe)
    rows = slice(None, None, max(1, len(data.train_images) // PRUNING_BATCH))
    places = np.array([teacher.labels.index(label) for label in data.labels], np.int64)
    judges, truth = (
        to_tensor(data.train_images[rows], teacher.input),
        torch.from_numpy(places[data.train_targets[rows]]),
    )
    small = pruned(teacher.net, judges, truth, Limit(most))
    watch = compression.stopwatch(setting, report, way, data.fingerprint, compression.matters(recipe), most)
    net = taught(teacher, data, small, recipe, cache_dir=setting.cache, report=watch.report, after_epoch=watch.keep)
    said = compression.predictions(net, setting, data)
    return Measured(
        params=small.parameters, macs=small.macs, all=percent(said == data.test_targets), seconds=watch.seconds
    )
