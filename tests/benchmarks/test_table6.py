from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cells, table, table6
from benchmarks.recipes import CPU
from tests.benchmarks import toy
from transfer.blueprint import parameters
from transfer.spec import resnet_cifar

SPEC = resnet_cifar(14, 5, widths=(4, 6, 8))


def test_what_each_tier_moves() -> None:
    """The last convolution of each group (9 * w * w weights) and the linear layer (8 * 5 weights, 5 biases)."""
    linear = 8 * 5 + 5
    assert table6.trainable(SPEC, "head") == 0
    assert table6.trainable(SPEC, "sparse") == 9 * 8 * 8 + linear
    assert table6.trainable(SPEC, "transfer") == 9 * (4 * 4 + 6 * 6 + 8 * 8) + linear
    assert table6.trainable(SPEC, "rilod-teacher") == parameters(SPEC)


def test_more_work_takes_longer() -> None:
    """Sixty-four times the multiply-accumulates: on any machine, however busy."""
    assert (
        table6.batch_seconds(resnet_cifar(8, 5, widths=(32, 64, 64)), 32, 32) > table6.batch_seconds(SPEC, 16, 16) > 0
    )


def test_a_round_and_an_inference_are_timed(tmp_path: Path) -> None:
    setting = toy.setting("table6", toy.teacher(tmp_path), tmp_path / "cache", only=("head-half",))
    done, _ = cells.measure(setting, table6.cells(setting), lambda line: None)
    assert not [one.error for one in done if one.error]
    (row,) = table.rows(table6.TABLE, done)
    assert row["method"] == "head-half" and row["trainable"] == 0
    assert row["seconds"] > 0 and row["batch_seconds"] > 0 and row["new"] is not None


def test_at_scale_cpu_the_first_size_is_the_student_of_the_other_tables(tmp_path: Path) -> None:
    setting = toy.setting("table6", toy.teacher(tmp_path), tmp_path / "cache", plan=replace(CPU, depth=1), quick=False)
    names = {cell.method for cell in table6.cells(setting)}
    assert {"default", "head-0.29m", "default-0.08m"} <= names and "default-0.29m" not in names


@pytest.mark.parametrize("name", ["default", "head-half", "sparse-half", "transfer-half", "rilod-teacher"])
def test_every_way_is_in_the_table(tmp_path: Path, name: str) -> None:
    setting = toy.setting("table6", toy.teacher(tmp_path), tmp_path / "cache")
    assert name in [cell.method for cell in table6.cells(setting)]
