"""Does a student notice a category that it does not know? Each category is left out in turn.

auroc: of single images, known ones against those of the left-out category, by the novelty score that the device uses.
Groups, as a device meets them: IN_GROUP images of the left-out category among OTHERS known ones, test images all.
detected: the share of such groups that hold something new by `transfer.novel_group.found`, as a device notices it
(`novelty.group_false_alarms`); false_alarms: the share of groups of as many known images alone. The novelty score's
quantiles come from training images that the student was not trained on. purity, recall: of the cluster that
`transfer.novel_group.largest_cluster` finds among the images of such a group that a device would buffer
(`novelty.buffer_share`); what is not buffered counts against recall.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from agent.config import Config
from benchmarks.baselines.old_images import features
from benchmarks.cells import Cell
from benchmarks.measured import Extra, Measured
from benchmarks.setting import Setting
from benchmarks.students import Knowing, Student, key, recipe, student
from benchmarks.table import Row, Table, mean
from cloud_teacher.progress import Report
from transfer.blueprint import macs, parameters
from transfer.novel_group import FEWEST, found, largest_cluster

IN_GROUP, OTHERS = 50, 450
DEVICE = Config().novelty
GROUPS = 500
CLUSTERS = 100
VERSION = 5
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
        extra=_noticed(begun, old, new, seed),
    )


def _noticed(begun: Student, old: Floats, new: Floats, seed: int) -> dict[str, Extra]:
    """The columns, from features of known and new test images."""
    statistics, random = begun.bundle.statistics(), np.random.default_rng(seed)
    width = begun.bundle.manifest.net.pooled_width
    scores_old, scores_new = statistics.novelty(old), statistics.novelty(new)

    def noticed(newcomers: int) -> float:
        """The share of groups, drawn with replacement, that are said to hold something new."""
        groups = (
            np.concatenate(
                [random.choice(scores_old, OTHERS + IN_GROUP - newcomers), random.choice(scores_new, newcomers)]
            )
            for _ in range(GROUPS)
        )
        return 100 * float(np.mean([found(group, statistics, DEVICE.group_false_alarms) for group in groups]))

    above = statistics.threshold(DEVICE.buffer_share)
    purity, recall = [], []
    for _ in range(CLUSTERS):
        rows_old = random.choice(len(old), min(OTHERS, len(old)), replace=False)
        rows_new = random.choice(len(new), min(IN_GROUP, len(new)), replace=False)
        group = np.concatenate([old[rows_old], new[rows_new]])
        truth = np.repeat([False, True], [len(rows_old), len(rows_new)])
        kept = np.concatenate([scores_old[rows_old], scores_new[rows_new]]) > above
        # Too few to find a cluster in: nothing of the category is found.
        enough = kept.sum() >= FEWEST
        members = largest_cluster(group[kept], statistics, width) if enough else np.zeros(kept.sum(), bool)
        recall.append(float(members[truth[kept]].sum() / truth.sum()))
        if members.any():
            purity.append(float(truth[kept][members].mean()))
    return {
        "auroc": auroc(scores_old, scores_new),
        "detected": noticed(IN_GROUP),
        "false_alarms": noticed(0),
        "purity": 100 * float(np.mean(purity)) if purity else None,
        "recall": 100 * float(np.mean(recall)),
    }


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
