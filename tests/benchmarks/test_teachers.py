from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.compression import PAPER_SIZES
from benchmarks.recipes import PAPER
from benchmarks.teachers import photograph_side, teacher_augmentation, teacher_spec
from cloud_teacher.datasets import Dataset
from tests.benchmarks import toy
from transfer.blueprint import macs, parameters
from transfer.spec import InputSpec, wide_resnet

UNIFORM = {2.00: (84, 169, 337), 1.42: (71, 142, 284), 0.60: (46, 92, 184), 0.23: (28, 57, 113)}


def sized(side: int) -> Dataset:
    return replace(toy.data(), input=InputSpec(side, side, (0.5,) * 3, (0.25,) * 3))


def test_the_papers_teacher_has_the_papers_size() -> None:
    spec = teacher_spec(replace(sized(32), labels=tuple("abcdefghij")), "paper", quick=False)
    # 36.22 M is the paper's figure; shortcuts have no parameters.
    assert parameters(spec) == pytest.approx(36.22e6, rel=2e-3)
    assert teacher_spec(sized(32), "paper", quick=True).family == "wide"


def test_photographs_come_at_224_only_in_their_table_and_with_a_net_that_can_bear_it() -> None:
    assert photograph_side("table5") == 224 and photograph_side("table4") == 64
    assert macs(teacher_spec(sized(224), "cpu", quick=False), 224, 224) < 400e6


def test_the_papers_augmentation_at_the_papers_scale() -> None:
    assert teacher_augmentation(sized(32), "cpu") is None
    augmentation = teacher_augmentation(sized(32), "paper")
    assert augmentation is not None and augmentation.cutout == 16 and not augmentation.flip


def test_the_budgets_of_the_papers_scale_admit_its_students() -> None:
    """Uniform widths (decision 8) fit each budget, and would not fit one two per cent smaller."""
    for size, (millions, widths) in zip(PAPER_SIZES, UNIFORM.items(), strict=True):
        count = parameters(wide_resnet(10, 1, 10, widths))
        assert size.most_parameters is not None
        assert count <= size.most_parameters <= 1.02 * count, (millions, count)
    assert PAPER.most_parameters is not None and PAPER.most_parameters >= parameters(
        wide_resnet(10, 1, 10, UNIFORM[1.42])
    )
