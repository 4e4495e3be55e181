from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cells, table, table1
from cloud_teacher.distil import FEATURES_WEIGHT, SHALLOW_FEATURES_WEIGHT, Recipe
from cloud_teacher.train import Schedule
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy
from transfer.blueprint import parameters


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return toy.teacher(tmp_path_factory.mktemp("teacher"))


def test_every_way_meets_its_size_and_the_shapes_of_zeros_and_plain_are_one(teacher: Teacher, tmp_path: Path) -> None:
    setting = toy.setting("table1", teacher, tmp_path)
    known = [cell for cell in table1.cells(setting) if not cell.method.startswith("depgraph")]
    done, stopped = cells.measure(setting, known, lambda line: None)
    assert not stopped and not [one.error for one in done if one.error]
    rows = {row["method"]: row for row in table.rows(table1.TABLE, done)}
    assert rows["teacher"]["params"] == parameters(teacher.spec)
    half = parameters(teacher.spec) // 2
    for name in ("default", "zeros-half", "gradient-half", "plain-half"):
        assert half / 2 < rows[name]["params"] <= half, name
    assert rows["plain-half"]["params"] == rows["zeros-half"]["params"]
    assert rows["plain-p0.7"]["params"] == rows["zeros-p0.7"]["params"] >= rows["gradient-p0.7"]["params"]
    assert (rows["default"]["inherits"], rows["plain-half"]["inherits"]) == ("yes", "no")
    assert all(0 <= row["all"] <= 100 for row in rows.values())
    assert all(row["seconds"] > 0 for name, row in rows.items() if name != "teacher")


def test_depgraph_is_among_the_ways(teacher: Teacher, tmp_path: Path) -> None:
    pytest.importorskip("torch_pruning", reason="the extra `bench` is not installed")
    plan = replace(toy.PLAN, student=replace(toy.SHORT, epochs=8))
    setting = toy.setting("table1", teacher, tmp_path, plan)
    known = [cell for cell in table1.cells(setting) if cell.method == "depgraph-half"]
    done, _ = cells.measure(setting, known, lambda line: None)
    assert not done[0].error
    row = table.rows(table1.TABLE, done)[0]
    assert row["params"] <= parameters(teacher.spec) // 2 and row["taught"] == "all" and row["all"] > 50


def test_the_feature_counts_less_for_a_few_blocks_and_not_for_networks_that_keep_all() -> None:
    recipe = Recipe(("a", "b"), Schedule(epochs=1), depth=1, features_weight=SHALLOW_FEATURES_WEIGHT)
    weights = {way: table1.changed(recipe, way).features_weight for way in ("default", "zeros", *table1.PEERS)}
    assert weights["default"] == weights["zeros"] == SHALLOW_FEATURES_WEIGHT
    assert weights["gradient"] == weights["depgraph"] == FEATURES_WEIGHT
