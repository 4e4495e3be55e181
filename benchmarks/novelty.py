"""Does a student notice a category that it does not know? Each category is left out in turn.

auroc: of single images, known ones against those of the left-out category, by the novelty score that the device uses.
Groups, as a device meets them: IN_GROUP images of the left-out category among OTHERS known ones. The group's statistic
is the share of images that a device would buffer (`novelty.buffer_share`); it is called new where that share is larger
than in all but 1 % of groups of known images alone. The scale comes from training images that the student was not
trained on; false_alarms and detected are measured on groups of test images. purity, recall: of the cluster that
`transfer.head.largest_cluster` finds among the buffered images of such groups.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from agent.config import Config
from benchmarks.baselines.old_images import features
from benchmarks.cells import Cell, Extra, Measured
from benchmarks.setting import Setting
from benchmarks.students import Knowing, Student, key, recipe, student
from benchmarks.table import Row, Table, mean
from cloud_teacher.compress import divide
from cloud_teacher.progress import Report
from transfer.head import largest_cluster
from transfer.spec import macs, parameters

IN_GROUP, OTHERS = 50, 450
FALSE_ALARMS = 0.01
GROUPS = 400
CLUSTERS = 20
VERSION = 1
BOTH: tuple[Knowing, ...] = ("T10", "T9")
COLUMNS = ("auroc", "detected", "false_alarms", "purity", "recall")

Floats = npt.NDArray[np.floating]


def cells(setting: Setting) -> list[Cell]:
    """One cell for every category left out; those of which not even the teacher knows are wanted with --new each."""
    return [
        Cell(
            method=category if knowing == "T10" else f"{category}-t9",
            seed=seed,
            run=partial(_notice, setting, category, knowing, seed),
            matters=(key(setting, recipe(setting, setting.known_without(category), seed), knowing), VERSION),
            columns={"teacher": knowing},
            wanted=knowing == "T10" or setting.new == "each",
        )
        for knowing in BOTH
        for category in setting.dataset.labels
        for seed in (range(1) if setting.plan.student_seeds == 1 else setting.seed_range)
    ]


def _notice(setting: Setting, category: str, knowing: Knowing, seed: int, report: Report) -> Measured:
    known = setting.known_without(category)
    begun = student(setting, recipe(setting, known, seed), knowing)
    net, input = begun.bundle.manifest.net, begun.bundle.manifest.input
    data = setting.dataset
    fresh = data.test_targets == data.labels.index(category)
    old, new = features(begun.bundle, data.test_images[~fresh]), features(begun.bundle, data.test_images[fresh])
    return Measured(
        params=parameters(net),
        macs=macs(net, input.height, input.width),
        extra=_noticed(begun, old, new, features(begun.bundle, _spare(setting, known)), seed),
    )


def _spare(setting: Setting, known: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Training images of the known categories that the student was not trained on."""
    data = setting.dataset.only(known)
    return data.train_images[divide(data.train_targets, setting.plan.holdout_per_class).calibration]


def _noticed(begun: Student, old: Floats, new: Floats, spare: Floats, seed: int) -> dict[str, Extra]:
    """The columns, from features of known and new test images and of spare training images."""
    statistics, random = begun.bundle.statistics(), np.random.default_rng(seed)
    share = Config().novelty.buffer_share
    above = statistics.threshold(share)
    scores_old, scores_new = statistics.novelty(old), statistics.novelty(new)
    alone = _shares(statistics.novelty(spare) > above, OTHERS + IN_GROUP, random)
    limit = float(np.quantile(alone, 1 - FALSE_ALARMS, method="higher"))
    false = _shares(scores_old > above, OTHERS + IN_GROUP, random) > limit
    mixed = _counts(scores_old > above, OTHERS, random) + _counts(scores_new > above, IN_GROUP, random)
    purity, recall = [], []
    for _ in range(CLUSTERS):
        rows_old = random.choice(len(old), min(OTHERS, len(old)), replace=False)
        rows_new = random.choice(len(new), min(IN_GROUP, len(new)), replace=False)
        group = np.concatenate([old[rows_old], new[rows_new]])
        truth = np.repeat([False, True], [len(rows_old), len(rows_new)])
        kept = np.concatenate([scores_old[rows_old], scores_new[rows_new]]) > above
        if kept.sum() < 4:  # too few to find a cluster in: nothing of the category is found
            recall.append(0.0)
            continue
        members = largest_cluster(group[kept], statistics)
        purity.append(float(truth[kept][members].mean()))
        recall.append(float(members[truth[kept]].sum() / truth.sum()))
    return {
        "auroc": auroc(scores_old, scores_new),
        "detected": 100 * float((mixed / (OTHERS + IN_GROUP) > limit).mean()),
        "false_alarms": 100 * float(false.mean()),
        "purity": 100 * float(np.mean(purity)) if purity else None,
        "recall": 100 * float(np.mean(recall)),
    }


def _counts(flags: npt.NDArray[np.bool_], size: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """How many of `size` images are flagged, in GROUPS groups drawn with replacement."""
    return np.asarray(flags[random.integers(0, len(flags), (GROUPS, size))].sum(axis=1), np.int64)


def _shares(flags: npt.NDArray[np.bool_], size: int, random: np.random.Generator) -> Floats:
    return np.asarray(_counts(flags, size, random) / size)


def auroc(low: Floats, high: Floats) -> float:
    """Probability that one of `high` exceeds one of `low`, ties counting half (Mann-Whitney)."""
    order = np.sort(low)
    below = np.searchsorted(order, high, "left") + np.searchsorted(order, high, "right")
    return float(below.mean() / (2 * len(low)))


def overall(found: list[Row]) -> list[Row]:
    """The shipped student, over all categories: `default`, and `default-t9`."""
    means = []
    for name, knowing in (("default", "T10"), ("default-t9", "T9")):
        whole = [row for row in found if row["teacher"] == knowing and "error" not in row]
        if whole:
            average = {column: mean([row.get(column) for row in whole]) for column in COLUMNS}
            means.append(whole[0] | {"method": name, "seeds": len(whole)} | average)
    return means


TABLE = Table("a category that was left out is noticed (each in turn, and the mean)", ("teacher", *COLUMNS), overall)
