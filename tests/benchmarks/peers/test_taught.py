from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("torch_pruning", reason="the extra `bench` is not installed")

from benchmarks.peers.taught import taught
from benchmarks.peers.torch_pruning import Projection, Pruned, pruned
from cloud_teacher.distil import Recipe
from cloud_teacher.progress import silent
from cloud_teacher.train import accuracy
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy
from transfer.blueprint import parameters
from transfer.limit import Limit
from transfer.networks import Network
from transfer.questions import to_tensor

DATA = toy.data()
RECIPE = Recipe(DATA.labels, replace(toy.SHORT, epochs=3), views=2)


class Cut(Exception):
    """The power fails."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return toy.teacher(tmp_path_factory.mktemp("teacher"))


def half(teacher: Teacher) -> Pruned:
    images = to_tensor(DATA.train_images, teacher.input)
    return pruned(teacher.net, images, torch.from_numpy(DATA.train_targets), Limit(parameters(teacher.spec) // 2))


def test_what_was_pruned_learns_again_and_its_shortcuts_stay(teacher: Teacher, tmp_path: Path) -> None:
    small = half(teacher)
    shortcuts = [one for one in small.net.modules() if isinstance(one, Projection)]
    before = [one.conv.weight.clone() for one in shortcuts]
    net = taught(teacher, DATA, small, RECIPE, cache_dir=tmp_path, report=silent, after_epoch=lambda epochs, net: None)
    assert accuracy(net, DATA.test_images, DATA.test_targets, DATA.input) > 0.8
    assert shortcuts and all(torch.equal(one.conv.weight, was) for one, was in zip(shortcuts, before, strict=True))


def test_a_cut_training_goes_on(teacher: Teacher, tmp_path: Path) -> None:
    def cut(epochs: int, net: Network) -> None:
        if epochs == 2:
            raise Cut

    with pytest.raises(Cut):
        taught(teacher, DATA, half(teacher), RECIPE, cache_dir=tmp_path, report=silent, after_epoch=cut)
    epochs: list[int] = []
    taught(
        teacher,
        DATA,
        half(teacher),
        RECIPE,
        cache_dir=tmp_path,
        report=silent,
        after_epoch=lambda done, net: epochs.append(done),
    )
    assert epochs == [3]
