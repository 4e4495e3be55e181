from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compression
from benchmarks.recipes import CPU
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy
from transfer.blueprint import parameters
from transfer.spec import resnet_cifar


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return toy.teacher(tmp_path_factory.mktemp("teacher"))


def test_the_budgets_are_those_of_a_resnet_20_and_of_a_resnet_8() -> None:
    assert compression.SMALL.most_parameters is not None and compression.SMALLEST.most_parameters is not None
    assert 0 <= compression.SMALL.most_parameters - parameters(resnet_cifar(20, 10)) < 300
    assert 0 <= compression.SMALLEST.most_parameters - parameters(resnet_cifar(8, 10)) < 5_000
    assert compression.ONE_BLOCK.most_parameters == compression.SMALLEST.most_parameters
    assert compression.ONE_BLOCK.depth == 1


def test_default_names_the_first_budget_alone(teacher: Teacher, tmp_path: Path) -> None:
    setting = toy.setting("table1", teacher, tmp_path, plan=CPU, quick=False)
    names = [compression.named("default", size, setting) for size in compression.budgets(setting)]
    assert names == ["default", "default-0.08m"]
    assert compression.shapes(setting) == (*compression.budgets(setting), compression.ONE_BLOCK)
    assert compression.named("plain", compression.SMALL, setting) == "plain-0.27m"
    assert [size.threshold for size in compression.thresholds(setting)] == [1.0, 0.9, 0.8, 0.7]
    paper = toy.setting("table1", teacher, tmp_path, plan=CPU, quick=False, scale="paper")
    assert [size.name for size in compression.shapes(paper)] == ["2.00m", "1.42m", "0.60m", "0.23m"]


def test_the_same_training_is_found_again_with_its_seconds(teacher: Teacher, tmp_path: Path) -> None:
    setting = toy.setting("table1", teacher, tmp_path)
    recipe = compression.recipe(setting, compression.budgets(setting)[0], 0)
    stages: list[tuple[str, int, int]] = []

    def report(stage: str, done: int, total: int, detail: str = "") -> None:
        stages.append((stage, done, total))

    first = compression.trained(setting, setting.dataset, recipe, report)
    steps = [done for stage, done, _ in stages if stage == compression.STAGE]
    assert steps[0] == 0 and steps[-1] == 20, "160 images, none set aside, in batches of 16, twice"
    stages.clear()
    again = compression.trained(setting, setting.dataset, recipe, report)
    assert [done for stage, done, _ in stages if stage == compression.STAGE] == [20]
    assert again.seconds == first.seconds > 0
    assert np.array_equal(
        compression.test_logits(first.net, setting, setting.dataset),
        compression.test_logits(again.net, setting, setting.dataset),
    )


def test_predictions_are_indices_into_the_data_sets_labels_not_the_teachers(teacher: Teacher, tmp_path: Path) -> None:
    setting = toy.setting("table1", teacher, tmp_path)
    data = setting.dataset
    turned = replace(data, labels=data.labels[::-1], test_targets=3 - data.test_targets)
    said = compression.predictions(teacher.net, setting, turned)
    assert (said == turned.test_targets).mean() > 0.9
    few = data.only(data.labels[2:])
    assert (compression.predictions(teacher.net, setting, few) == few.test_targets).mean() > 0.9
