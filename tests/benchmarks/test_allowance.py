from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.allowance import Allowance
from benchmarks.cells import Stopped
from cloud_teacher.progress import silent
from cloud_teacher.train import Rows, Schedule, optimise
from transfer.networks import Network
from transfer.spec import resnet_cifar


def test_a_training_comes_to_its_end_in_pieces_each_of_whole_epochs(tmp_path: Path) -> None:
    """An epoch takes 4 of a clock's minutes, a piece may take 9: two epochs each, and the fifth in the last."""
    now_s = [0.0]
    done: list[int] = []

    def loss_of(rows: Rows, epoch: int, random: np.random.Generator) -> Tensor:
        now_s[0] += 60
        return net(torch.zeros(2, 3, 8, 8)).logits.square().mean()

    pieces = 0
    while len(done) < 5:
        net = Network(resnet_cifar(8, 2, widths=(4, 4, 4)))
        pieces += 1
        try:
            optimise(
                net,
                8,
                loss_of,
                Schedule(5, 2),
                stage="train",
                cache_dir=tmp_path,
                report=Allowance(9, silent, lambda: now_s[0]),
                after_epoch=lambda epochs, _: done.append(epochs),
            )
        except Stopped:
            now_s[0] += 1000
    assert done == [1, 2, 3, 4, 5] and pieces == 3


def test_the_first_epoch_is_let_through_however_long(tmp_path: Path) -> None:
    now_s = [0.0]
    allowance = Allowance(1, silent, lambda: now_s[0])
    for done in range(1, 11):
        now_s[0] += 60
        allowance("train", done, 20, "epoch 1/2, loss 1.0")
    with pytest.raises(Stopped):
        allowance("train", 11, 20, "epoch 2/2, loss 1.0")


def test_what_has_no_epochs_is_stopped_when_the_time_is_over_unless_it_is_done() -> None:
    now_s = [0.0]
    allowance = Allowance(1, silent, lambda: now_s[0])
    allowance("ask teacher", 1, 10)
    now_s[0] = 61
    allowance("ask teacher", 10, 10)
    allowance("ask again", 0, 10)
    with pytest.raises(Stopped):
        allowance("ask again", 3, 10)


def test_a_piece_whose_time_is_over_before_it_begins_still_does_an_epoch() -> None:
    now_s = [0.0]
    allowance = Allowance(1, silent, lambda: now_s[0])
    now_s[0] = 100
    allowance("train", 10, 30)
    for done in range(11, 21):
        now_s[0] += 1
        allowance("train", done, 30, "epoch 2/3, loss 1.0")
    with pytest.raises(Stopped):
        allowance("train", 21, 30, "epoch 3/3, loss 1.0")
