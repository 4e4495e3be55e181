"""Table 3: how many iterations a student needs to be as good as one without a teacher ever gets.

A schedule that anneals over 200 epochs converges near its end, whatever is trained; so here every schedule ends where
it is measured, and each way of training is tried with several lengths. What is reached is the accuracy on the test
images: the teacher was trained on all others, and what it says of them would flatter whoever listens to it. Nothing is
chosen by it. The accuracy to reach is the best that `independent` reaches with any length; a way's `iterations` are
those of its shortest schedule whose mean over the seeds is no more than TOLERANCE below it.

independent  the same shape from random weights, by the labels alone
inherited    from the weights of the teacher's kept filters, by the labels alone
default      inherited, taught by the teacher: what `understudy teacher compress` does
fitnet       random weights, hints, then the teacher's logits and the labels
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from benchmarks import compression
from benchmarks.cells import Cell
from benchmarks.compression import Size
from benchmarks.hints import VERSION as HINTS_VERSION
from benchmarks.hints import Hints, fitnet
from benchmarks.measured import Measured
from benchmarks.setting import Setting
from benchmarks.table import Row, Table
from cloud_teacher.distil import Recipe, choose
from cloud_teacher.progress import Report

VERSION = 2
TOLERANCE = 0.1
"""Percent: less than the spread over seeds."""
TAUGHT = (1, 2, 3, 4, 6, 8, 10, 12, 16, 24)
ALONE = (10, 20, 40, 80)
LENGTHS = {"default": TAUGHT + ALONE[2:], "inherited": TAUGHT + ALONE[2:], "independent": ALONE, "fitnet": ALONE}
QUICK_LENGTHS = (1, 2)


def cells(setting: Setting) -> list[Cell]:
    """Every way of training with every length, for each of the scale's sizes."""
    found = []
    for size in compression.budgets(setting):
        for way in LENGTHS:
            for epochs in QUICK_LENGTHS if setting.quick else LENGTHS[way]:
                for seed in setting.seed_range:
                    recipe = _recipe(setting, size, way, epochs, seed)
                    found.append(
                        Cell(
                            f"{compression.named(way, size, setting)}-{epochs}ep",
                            seed,
                            partial(_measure, setting, way, recipe),
                            (VERSION, way, compression.matters(recipe), HINTS_VERSION if way == "fitnet" else 0),
                            {"size": size.name, "way": way, "epochs": epochs},
                        )
                    )
    return found


def _recipe(setting: Setting, size: Size, way: str, epochs: int, seed: int) -> Recipe:
    recipe = compression.recipe(setting, size, seed)
    recipe = replace(recipe, schedule=replace(recipe.schedule, epochs=epochs))
    if way == "default":
        return recipe
    return replace(recipe, inherit=way == "inherited", taught="labels")


def _measure(setting: Setting, way: str, recipe: Recipe, report: Report) -> Measured:
    data = setting.dataset
    if way == "fitnet":
        hints = Hints(recipe.schedule)
        chosen = choose(setting.teacher, data.train_images, recipe)
        watch = compression.stopwatch(setting, report, data.fingerprint, chosen, hints)
        net = fitnet(
            setting.teacher, data, chosen, hints, cache_dir=setting.cache, report=watch.report, after_epoch=watch.keep
        )
        seconds = watch.seconds
    else:
        made = compression.trained(setting, data, recipe, report)
        net, seconds = made.net, made.seconds
    steps = max(1, len(data.train_images) // recipe.schedule.batch_size)
    return compression.measured(setting, net, seconds, iterations=steps * recipe.schedule.epochs)


def convergence(found: list[Row]) -> list[Row]:
    """For every size and way, the shortest schedule that is as good as the best without a teacher, and how many times
    fewer iterations that is; iterations None where no length reached it."""
    summary = []
    for size in dict.fromkeys(row["size"] for row in found):
        same = [row for row in found if row["size"] == size and row.get("all") is not None]
        alone = [row for row in same if row["way"] == "independent"]
        if not alone:
            continue
        wanted = max(row["all"] for row in alone) - TOLERANCE
        slow = _shortest(alone, wanted)
        for way in dict.fromkeys(row["way"] for row in same):
            reached = _shortest([row for row in same if row["way"] == way], wanted)
            name = next(row["method"] for row in same if row["way"] == way).rpartition("-")[0]
            base = reached or max((row for row in same if row["way"] == way), key=lambda row: row["all"])
            speedup = slow["iterations"] / reached["iterations"] if slow and reached else None
            changed = {"method": name, "iterations": reached["iterations"] if reached else None}
            summary.append(base | changed | {"to_reach": wanted, "speedup": speedup})
    return summary


def _shortest(rows: list[Row], wanted: float) -> Row | None:
    return min((row for row in rows if row["all"] >= wanted), key=lambda row: row["iterations"], default=None)


TABLE = Table(
    "Iterations to the same accuracy, with and without the teacher",
    ("size", "way", "epochs", "iterations", "to_reach", "speedup"),
    convergence,
)
