"""A benchmark's setting so small that a test can run every table: four kinds of coloured stripes, a teacher that knows
them, and a plan of few epochs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.recipes import Plan
from benchmarks.setting import Setting
from cloud_teacher.datasets import Dataset
from cloud_teacher.train import Schedule, train_teacher
from cloud_teacher.zoo import Teacher, save_teacher, teacher_manifest
from tests.cloud_teacher.conftest import INPUT, LABELS, stripes
from transfer.networks import weights_of
from transfer.spec import resnet_cifar

SHORT = Schedule(epochs=2, batch_size=16, learning_rate=0.05)
PLAN = Plan(
    student=SHORT,
    depth=1,
    views=2,
    teacher=SHORT,
    joint=SHORT,
    holdout_per_class=5,
    new_images=40,
    sweep_images=20,
)


@cache
def data() -> Dataset:
    return Dataset("stripes", LABELS, *stripes(40, 0), *stripes(20, 1), INPUT, flip=False)


@cache
def teacher(folder: Path) -> Teacher:
    spec = resnet_cifar(14, 4, widths=(8, 12, 16))
    net, _ = train_teacher(data(), spec, Schedule(epochs=5, batch_size=16))
    manifest = teacher_manifest("stripes-teacher", LABELS, INPUT, spec, flip=False)
    return save_teacher(folder / "teacher", manifest, weights_of(net), None)


def setting(table: str, knowing: Teacher, cache_dir: Path, plan: Plan = PLAN, **changes: Any) -> Setting:
    """Under --quick, with the stripes and their teacher as if they had been found."""
    made = Setting(table=table, cache=cache_dir, **({"quick": True} | changes))
    made.__dict__.update(plan=replace(plan), dataset=data(), teacher=knowing)
    return made
