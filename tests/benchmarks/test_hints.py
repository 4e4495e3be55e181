from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.hints import Hints, fitnet
from cloud_teacher.distil import Recipe, choose
from cloud_teacher.progress import silent
from cloud_teacher.train import Schedule, accuracy
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy
from transfer.blueprint import weight_shapes
from transfer.networks import Network, weights_of
from transfer.plan import Plan, shrunk_spec

DATA = toy.data()
HINTS = Hints(Schedule(epochs=5, batch_size=16, learning_rate=0.05))


class Cut(Exception):
    """The power fails."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return toy.teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def thin(teacher: Teacher) -> Plan:
    """Thinner than the teacher, so that hints need a regressor."""
    return choose(teacher, DATA.train_images, Recipe(DATA.labels, HINTS.schedule, most_parameters=5000))


@pytest.mark.parametrize("logits", [True, False])
def test_a_student_learns_and_the_regressor_is_gone(teacher: Teacher, thin: Plan, logits: bool) -> None:
    epochs: list[int] = []
    student = fitnet(
        teacher,
        DATA,
        thin,
        replace(HINTS, logits=logits),
        cache_dir=None,
        report=silent,
        after_epoch=lambda done, net: epochs.append(done),
    )
    assert epochs == [1, 2, 3, 4, 5], "both stages together"
    assert student.spec == shrunk_spec(teacher.spec, thin)
    assert set(weights_of(student)) == set(weight_shapes(student.spec))
    assert not [name for name, _ in student.named_parameters() if "regressor" in name]
    assert accuracy(student, DATA.test_images, DATA.test_targets, DATA.input) > 0.5


def test_hints_alone_leave_what_lies_behind_the_middle(teacher: Teacher, thin: Plan) -> None:
    first: dict[str, np.ndarray] = {}

    def after(done: int, net: Network) -> None:
        if done == 1:
            first.update(weights_of(net))
            raise Cut

    starts = []
    for rate in (0.05, 1e-9):
        hints = replace(HINTS, schedule=replace(HINTS.schedule, learning_rate=rate))
        with pytest.raises(Cut):
            fitnet(teacher, DATA, thin, hints, cache_dir=None, report=silent, after_epoch=after)
        starts.append(dict(first))
    taught, untaught = starts
    assert np.array_equal(taught["linear.weight"], untaught["linear.weight"])
    assert np.array_equal(taught["layer3.0.conv2.weight"], untaught["layer3.0.conv2.weight"])
    assert not np.allclose(taught["layer2.0.conv2.weight"], untaught["layer2.0.conv2.weight"], atol=1e-4)


@pytest.mark.parametrize("at", [1, 3])
def test_cut_in_either_stage_it_goes_on_and_ends_the_same(
    teacher: Teacher, thin: Plan, tmp_path: Path, at: int
) -> None:
    def cut(done: int, net: Network) -> None:
        if done == at:
            raise Cut

    with pytest.raises(Cut):
        fitnet(teacher, DATA, thin, HINTS, cache_dir=tmp_path, report=silent, after_epoch=cut)
    resumed = fitnet(teacher, DATA, thin, HINTS, cache_dir=tmp_path, report=silent)
    straight = fitnet(teacher, DATA, thin, HINTS, cache_dir=None, report=silent)
    for name, weight in weights_of(straight).items():
        assert np.allclose(weights_of(resumed)[name], weight, atol=1e-5), name


def test_a_single_epoch_is_one_without_hints(teacher: Teacher, thin: Plan) -> None:
    epochs: list[int] = []
    hints = replace(HINTS, schedule=replace(HINTS.schedule, epochs=1))
    fitnet(
        teacher,
        DATA,
        thin,
        hints,
        cache_dir=None,
        report=silent,
        after_epoch=lambda done, net: epochs.append(done),
    )
    assert epochs == [1]
