"""Round: a learning round from the operator's trigger to the swapped model, beside what a user would do instead.

A student of nine of CIFAR-10's categories (ResNet-20, 0.27 M parameters, compressed from the teacher) learns the tenth,
truck, from 500 images. The round is the real one: the daemon with its shipped configuration, one training thread, a
real broker, a teacher worker (one thread) on the same machine. The images come labelled, through a folder named after
their category; while it learns, the device serves five more images a second. Its seconds are all that passes from the
trigger's publication to the report of the swap, the wait for the teacher included: `seconds_by_stage`. The shipped tier
(`transfer`) runs before and after all others and the mean counts; the tiers `sparse` and `head` are rows of their own.

Of the rivals only the training is timed: plain PyTorch, one thread, 50 epochs each, in batches of 64.

fine-tuning   every weight of the same student, on the 500 and on 50 stored images of each old category
rilod         every weight of the uncompressed network, the teacher less its row for truck, by RILOD's losses on the 500
rilod-unseen  the same with a network that never saw a truck (the T9 teacher of `table4`), where the cache has one
refit         a new classifier on the student's frozen features, computed once: Adam, batches of 32, the same images

`vs_finetune`, `vs_rilod`, `vs_refit`: a rival's seconds by ours, how many times faster the whole round is.
`vs_rilod_as_run`: the same of the 12 epochs that RILOD has in our tables and was run for here; its accuracies are those
after these.
`points_above_rilod`: our accuracy on all ten categories less RILOD's, in percentage points of the test images. Its
network was once trained on 5,000 trucks, so it has little to learn; `points_above_rilod_unseen` is the same for one
that was not. Learning rates were chosen on held-out training images.
Without --data-dir the images are scikit-learn's digits and the networks trained for seconds: to see that it works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from agent.job import Tier
from benchmarks import rounds
from benchmarks.baselines import gradient
from benchmarks.baselines.choice import Choice
from benchmarks.baselines.start import Start, of_student
from benchmarks.device import rivals
from benchmarks.device.conditions import Conditions
from benchmarks.device.findings import Figure, Findings, Row
from benchmarks.device.loop import Lesson, lap
from benchmarks.device.rivals import EPOCHS, Learned, Predict, Task
from benchmarks.judge import percent, served, truth_in
from benchmarks.learner import new_images
from benchmarks.setting import Setting, first_of_each, teacher_key
from benchmarks.students import recipe, student, t9_spec
from cloud_teacher.zoo import Teacher, load_teacher
from transfer.networks import build, weights_of

STORED_EACH, SHOWN_MEANWHILE = 50, 100
FINE_TUNING_RATE = 1e-3
RILOD_CHOICE = Choice(rate=3e-4, weight=1.0, row="chance")
"""Of the rates 1e-2 to 1e-3 and 1e-3 to 1e-5, weights 1 and 10 and both rows, the best on held-out training images."""
AT_LEAST = {"vs_finetune": 10, "vs_rilod": 50}
FINE_TUNING, RILOD, UNSEEN, REFIT = "fine-tuning", "rilod", "rilod-unseen", "refit"
FIGURES = {FINE_TUNING: "vs_finetune", RILOD: "vs_rilod", REFIT: "vs_refit"}
LENIENT = {"gate": {"max_old_drop": 1.0, "max_category_drop": 1.0, "min_new": 0.0}}
"""For networks that were trained for seconds: the round is to end in a swap all the same."""

Accuracy = Mapping[str, float | None]


@dataclass(frozen=True)
class Extent:
    """laps: rounds of the shipped tier; tiers: measured besides; epochs: how many of a rival's are run, by its name,
    all where it is not in it; overrides: of the device's configuration."""

    laps: int = 2
    tiers: Sequence[Tier] = ("sparse", "head")
    epochs: Mapping[str, int] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


USUAL = Extent(epochs={RILOD: gradient.EPOCHS, UNSEEN: gradient.EPOCHS})
QUICK = Extent(laps=1, tiers=("head",), epochs={FINE_TUNING: 3, RILOD: 3, UNSEEN: 3}, overrides=LENIENT)


@dataclass(frozen=True)
class Ours:
    """A round of ours: seconds by stage, and accuracies."""

    tier: Tier
    stages: Mapping[str, float]
    accuracy: Accuracy

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())


def measure(conditions: Conditions, extent: Extent | None = None) -> Findings:
    quick = conditions.quick or conditions.data_dir is None
    setting = Setting(
        "table4", conditions.cache, data_dir=conditions.data_dir, teacher_path=conditions.teacher, quick=quick
    )
    setting.open()
    return measured(setting, conditions.note, extent or (QUICK if quick else USUAL))


def measured(setting: Setting, note: Callable[[str], None], extent: Extent) -> Findings:
    """The shipped tier, the rivals, the other tiers, and the shipped tier again."""
    stage = _Stage(setting, note, extent.overrides)
    shipped = rounds.default_tier()
    first = stage.ours(shipped)
    theirs = {name: stage.rival(name, extent.epochs.get(name, EPOCHS)) for name in stage.rivals}
    others = [stage.ours(tier) for tier in extent.tiers]
    laps = [first, *(stage.ours(shipped) for _ in range(extent.laps - 1))]
    return findings(laps, others, theirs)


def findings(laps: Sequence[Ours], others: Sequence[Ours], theirs: Mapping[str, tuple[Learned, Accuracy]]) -> Findings:
    """From the rounds of the shipped tier, those of other tiers, and the rivals by name."""
    seconds = fmean(one.seconds for one in laps)
    stages = {name: fmean(one.stages.get(name, 0.0) for one in laps) for name in laps[0].stages}
    figures: dict[str, Figure] = {figure: theirs[name][0].seconds / seconds for name, figure in FIGURES.items()}
    rilod, as_run = theirs[RILOD][0].seconds / seconds, theirs[RILOD][0].epochs / EPOCHS
    ours = fmean(_all(one.accuracy) for one in laps)
    above = {name: ours - _all(accuracy) for name, (_, accuracy) in theirs.items()}
    rows: list[Row] = [
        {"way": f"tier {one.tier}", "seconds": one.seconds, "by_ours": one.seconds / seconds, **one.accuracy}
        for one in (*laps, *others)
    ]
    rows += [
        {"way": name, "seconds": learned.seconds, "by_ours": learned.seconds / seconds, **accuracy}
        for name, (learned, accuracy) in theirs.items()
    ]
    notes = [
        f"{name}: {learned.epochs} of {EPOCHS} epochs were run; the seconds are multiplied accordingly, the accuracies "
        "those after what was run."
        for name, (learned, _) in theirs.items()
        if learned.epochs < EPOCHS
    ]
    figures |= {
        "vs_rilod_as_run": rilod * as_run,
        "points_above_rilod": above[RILOD],
        "points_above_rilod_unseen": above.get(UNSEEN),
        "seconds": seconds,
        "seconds_by_stage": stages,
    }
    return Findings("round", figures, rows, at_least=AT_LEAST, notes=notes)


def _all(accuracy: Accuracy) -> float:
    return accuracy["all"] or 0.0


class _Stage:
    """What every way of learning is given, and the test images that judge it."""

    def __init__(
        self, setting: Setting, note: Callable[[str], None], overrides: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._setting, self._note, self._overrides = setting, note, overrides
        self._new = setting.new_category
        note(f"the student that does not know {self._new!r}")
        self._student = student(setting, recipe(setting, setting.known_without(self._new)), "T10")
        self._images = new_images(setting, self._new, seed=0)
        self._labels = (*self._student.bundle.manifest.labels, self._new)

    def ours(self, tier: Tier) -> Ours:
        self._note(f"a round of tier {tier}")
        teacher = self._setting.teacher_path or self._student.teacher.bundle_dir
        assert teacher is not None
        data = self._setting.dataset
        known = data.test_images[data.test_targets != data.labels.index(self._new)][:SHOWN_MEANWHILE]
        lesson = Lesson(self._student, teacher, self._new, self._images, known)
        with (
            TemporaryDirectory(prefix="benchmark-round-") as folder,
            lap(Path(folder), lesson, tier, self._overrides) as ended,
        ):
            return Ours(tier, ended.stages, self._accuracy(lambda images: served(ended.model, images)))

    @property
    def rivals(self) -> list[str]:
        """Those that can be measured here."""
        unseen = [UNSEEN] if self._unseen_folder.is_dir() else []
        return [FINE_TUNING, RILOD, *unseen, REFIT]

    def rival(self, name: str, epochs: int) -> tuple[Learned, Accuracy]:
        self._note(f"{name}, {epochs} epochs")
        learned = self._learned(name, epochs)
        return learned, self._accuracy(learned.predict)

    def _learned(self, name: str, epochs: int) -> Learned:
        if name in (RILOD, UNSEEN):
            teacher = self._student.teacher if name == RILOD else load_teacher(self._unseen_folder)
            task = self._task(_knowing_only(teacher, self._labels[:-1]))
            return rivals.rilod_of(task, self._student, RILOD_CHOICE, epochs)
        task = self._task(of_student(self._student))
        return rivals.refitted(task) if name == REFIT else rivals.fine_tuned(task, FINE_TUNING_RATE, epochs)

    @property
    def _unseen_folder(self) -> Path:
        """Where `table4` keeps the teacher that it trains on the old categories alone."""
        known = self._labels[:-1]
        spec = t9_spec(self._setting, len(known))
        key = teacher_key(self._setting.dataset.only(known), spec, self._setting.plan.teacher)
        return self._setting.cache / "teachers" / key[:16]

    def _task(self, start: Start) -> Task:
        data = self._setting.dataset
        place = {data.labels.index(label): at for at, label in enumerate(self._labels[:-1])}
        rows = first_of_each(data.train_targets, STORED_EACH, "stored")
        rows = rows[np.isin(data.train_targets[rows], list(place))]
        targets = np.array([place[int(target)] for target in data.train_targets[rows]], np.int64)
        return Task(start, self._images, data.train_images[rows], targets)

    def _accuracy(self, predict: Predict) -> Accuracy:
        """In percent of the test images, of old categories, the new one, and all."""
        data = self._setting.dataset
        truth, new = truth_in(data, self._labels), len(self._labels) - 1
        right = predict(data.test_images) == truth
        return {"old": percent(right[truth != new]), "new": percent(right[truth == new]), "all": percent(right)}


def _knowing_only(teacher: Teacher, labels: Sequence[str]) -> Start:
    """The teacher's network without its rows for other categories."""
    weights, layer = weights_of(teacher.net), teacher.net.blueprint.logits
    rows = [teacher.labels.index(label) for label in labels]
    weights |= {name: weights[name][rows] for name in (f"{layer}.weight", f"{layer}.bias")}
    spec = msgspec.structs.replace(teacher.spec, classes=len(rows))
    return Start(build(spec, weights), tuple(labels), teacher.input, teacher.manifest.flip)
