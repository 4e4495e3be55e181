"""Under which conditions a table is measured: parsed once, never changed; data and teacher are opened once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import torch

from benchmarks.recipes import Plan, Scale, plan
from benchmarks.teachers import photograph_side, teacher_augmentation, teacher_spec
from cloud_teacher.datasets import Dataset
from cloud_teacher.progress import Report, silent
from cloud_teacher.recognise import recognise
from cloud_teacher.train import Rows, Schedule, identity_of, train_teacher
from cloud_teacher.zoo import Teacher, load_teacher, save_teacher, teacher_manifest
from transfer.networks import weights_of
from transfer.spec import NetSpec

RESULTS = Path(__file__).parent / "results"


class SettingError(ValueError):
    """The benchmark cannot be run like this; the message says what to give instead."""


@dataclass(frozen=True, eq=False)
class Setting:
    """`table` at `scale`, with `seeds` seeds. data_dir: CIFAR-10's files or folders of categories; digits where there
    is none. teacher_path: its bundle or published weights. quick: everything once, tiny. only: methods to run, all
    where empty. new: learn this category (the data set's last where empty), or "each". minutes: no cell is begun
    after so many. proxy: any folder of pictures without labels (table7)."""

    table: str
    cache: Path
    scale: Scale = "cpu"
    data_dir: Path | None = None
    teacher_path: Path | None = None
    quick: bool = False
    seeds: int = 3
    threads: int = 1
    only: tuple[str, ...] = ()
    new: str = ""
    fresh: bool = False
    minutes: float | None = None
    results: Path = RESULTS
    proxy: Path | None = None
    report: Report = field(default=silent)

    @cached_property
    def plan(self) -> Plan:
        return plan(self.scale, quick=self.quick, photographs=self.table == "table5")

    @cached_property
    def dataset(self) -> Dataset:
        """The whole data set; under --quick a few images of each category. Photographs come in the teacher's size."""
        size = self._given.input.height if self._given else None
        data = recognise(
            "auto", self.data_dir, cache_dir=self.cache, size=size or photograph_side(self.table), report=self.report
        )
        return subset(data, self.plan.train_images, self.plan.test_images)

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher that knows all categories: the given one, else one trained here and kept in the cache.

        Raises SettingError where it does not know a category of the data set.
        """
        teacher = self._given or self.trained_teacher(
            self.dataset, teacher_spec(self.dataset, self.scale, quick=self.quick)
        )
        strangers = sorted(set(self.dataset.labels) - set(teacher.labels))
        if strangers:
            raise SettingError(
                f"the teacher does not know {', '.join(strangers[:5])}: give --teacher one of {self.dataset.name}, or "
                "none to have one trained"
            )
        return teacher

    def trained_teacher(self, data: Dataset, spec: NetSpec, schedule: Schedule | None = None) -> Teacher:
        """A teacher of all categories of `data`, trained once and then found in the cache."""
        schedule = schedule or self.plan.teacher
        spec = msgspec.structs.replace(spec, classes=len(data.labels))
        out = self.cache / "teachers" / teacher_key(data, spec, schedule)[:16]
        if out.is_dir():
            return load_teacher(out)
        augmentation = teacher_augmentation(data, self.scale)
        net, _ = train_teacher(
            data, spec, schedule, augmentation=augmentation, cache_dir=self.cache, report=self.report
        )
        manifest = teacher_manifest(f"{data.name}-teacher", data.labels, data.input, spec, flip=data.flip)
        return save_teacher(out, manifest, weights_of(net), None)

    @cached_property
    def new_category(self) -> str:
        """What tables with one new category learn: the data set's last. `new` may ask for others besides.

        Raises SettingError.
        """
        labels = self.dataset.labels
        if self.new not in ("", "each", *labels):
            raise SettingError(f"--new {self.new}: {self.dataset.name} has {', '.join(labels)}; `each` takes them all")
        return labels[-1]

    def known_without(self, *categories: str) -> tuple[str, ...]:
        return tuple(label for label in self.dataset.labels if label not in categories)

    @property
    def seed_range(self) -> range:
        return range(1 if self.quick else self.seeds)

    def wants(self, method: str) -> bool:
        """Whether --only names this method, with or without what follows its first space, or there is no --only."""
        return not self.only or method in self.only or method.split(" ")[0] in self.only

    def open(self) -> None:
        """Data and teacher now, so that what is wrong with them is said before anything long is begun."""
        torch.set_num_threads(self.threads)
        _ = self.teacher

    @cached_property
    def _given(self) -> Teacher | None:
        return load_teacher(self.teacher_path) if self.teacher_path else None


def teacher_key(data: Dataset, spec: NetSpec, schedule: Schedule) -> str:
    return identity_of("benchmark teacher", data.fingerprint, spec, schedule)


def subset(data: Dataset, train: int | None, test: int | None) -> Dataset:
    """At most so many training and test images of each category, chosen by hash."""
    if train is not None:
        kept = first_of_each(data.train_targets, train, "train")
        data = replace(data, train_images=data.train_images[kept], train_targets=data.train_targets[kept])
    if test is not None:
        kept = first_of_each(data.test_targets, test, "test")
        data = replace(data, test_images=data.test_images[kept], test_targets=data.test_targets[kept])
    return data


def first_of_each(targets: Rows, count: int, salt: str) -> Rows:
    """Rows of `count` images of every category (or all it has), drawn by hash, ascending."""
    rows: list[int] = []
    for target in np.unique(targets):
        rows += drawn(np.flatnonzero(targets == target), count, salt).tolist()
    return np.array(sorted(rows), np.int64)


def drawn(rows: Rows, count: int, salt: str) -> Rows:
    """`count` of `rows` (or all), drawn by hash, so the same everywhere; another `salt` draws others."""
    order = sorted(rows.tolist(), key=lambda row: hashlib.sha256(f"{salt}:{row}".encode()).digest())
    return np.array(order[:count], np.int64)
