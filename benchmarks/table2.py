"""Table 2: our students beside published figures (which docs/results.md adds), and as int8.

The students are those of table 1. `-int8` is the same one as its dynamically quantised .tflite model, measured as a
device runs it: `bytes` is the model's file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks import compression
from benchmarks.cells import Cell
from benchmarks.judge import percent
from benchmarks.measured import Measured
from benchmarks.setting import Setting
from benchmarks.table import Table
from cloud_teacher.compress import write_model
from cloud_teacher.distil import Recipe, narrowed
from cloud_teacher.progress import Report
from transfer import tflite
from transfer.blueprint import macs, parameters
from transfer.preprocess import normalise

VERSION = 1
BATCH = 64
TABLE = Table("Compression beside published work; int8", ("size", "format", "bytes", "ratio"))


def cells(setting: Setting) -> list[Cell]:
    """The students of every shape, as float32 and as int8."""
    return [
        Cell(
            compression.named("default", size, setting) + suffix,
            seed,
            partial(_measure, setting, recipe),
            (VERSION, compression.matters(recipe)),
            {"size": size.name, "format": "int8" if suffix else "float32"},
        )
        for size in compression.shapes(setting)
        for suffix in ("", "-int8")
        for seed in setting.seed_range
        for recipe in [replace(compression.recipe(setting, size, seed), quantise="dynamic_int8" if suffix else "none")]
    ]


def _measure(setting: Setting, recipe: Recipe, report: Report) -> Measured:
    data, teacher = setting.dataset, setting.teacher
    # The training is that of table 1: how the result is stored is no part of it.
    made = compression.trained(setting, data, replace(recipe, quantise="none"), report)
    net = narrowed(made.net, [teacher.labels.index(label) for label in data.labels])
    model = write_model(net, teacher.input, data.train_images, recipe.quantise)
    spans = [data.test_images[at : at + BATCH] for at in range(0, len(data.test_images), BATCH)]
    said = np.concatenate([tflite.run(model, normalise(span, teacher.input))[0].argmax(axis=1) for span in spans])
    return Measured(
        params=parameters(net.spec),
        macs=macs(net.spec, *compression.side(setting)),
        all=percent(said == data.test_targets),
        seconds=made.seconds,
        extra={"bytes": len(model), "ratio": parameters(teacher.spec) / parameters(net.spec)},
    )
