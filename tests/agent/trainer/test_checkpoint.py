"""A checkpoint brings back weights, momentum and epoch exactly, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from agent.trainer.checkpoint import Checkpoint
from agent.trainer.nesterov import Nesterov

DATA = torch.arange(12, dtype=torch.float32).reshape(4, 3) / 10


class Training:
    """A small net of which only the second layer moves, as in the tiers."""

    def __init__(self, path: Path, *, key: str = "sparse:4") -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        self.net[0].requires_grad_(False)
        moving = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        self.optimiser = Nesterov(moving, dict.fromkeys(moving, 0.1))
        self.checkpoint = Checkpoint(path, self.optimiser, key=key)

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.net(DATA).square().sum().backward()
            self.optimiser.step()

    def weights(self) -> list[float]:
        return [value for p in self.net.parameters() for value in p.detach().flatten().tolist()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.safetensors"


def test_without_a_checkpoint_it_begins_at_the_beginning(path: Path) -> None:
    training = Training(path)
    before = training.weights()
    assert training.checkpoint.load() == 0 and training.weights() == before


def test_going_on_is_the_same_as_never_having_stopped(path: Path) -> None:
    whole = Training(path)
    whole.step(3)
    whole.checkpoint.save(3)
    whole.step(4)
    again = Training(path)
    assert again.checkpoint.load() == 3
    again.step(4)
    assert again.weights() == whole.weights()


def test_momentum_matters_and_is_kept(path: Path) -> None:
    whole = Training(path)
    whole.step(3)
    whole.checkpoint.save(3)
    tensors = safetensors.torch.load_file(path)
    assert {name.split(".")[0] for name in tensors} == {"weight", "momentum", "pace"}
    assert not any(".0." in name for name in tensors)  # what does not move is not written


def test_before_the_first_step_there_is_nothing_to_remember(path: Path) -> None:
    training = Training(path)
    training.checkpoint.save(0)
    assert Training(path).checkpoint.load() == 0
    other = Training(path)
    other.checkpoint.load()
    other.step()
    training.step()
    assert other.weights() == training.weights()


@pytest.mark.parametrize(
    "damage", ["torn", "junk", "empty", "directory", "another", "no epoch", "lacking", "misshapen"]
)
def test_what_is_no_checkpoint_of_this_training_is_not_used(path: Path, damage: str) -> None:
    training = Training(path, key="transfer:4" if damage == "another" else "sparse:4")
    training.step()
    training.checkpoint.save(7)
    data = path.read_bytes()
    tensors = safetensors.torch.load_file(path)
    if damage == "torn":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "junk":
        path.write_bytes(os.urandom(200))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "directory":
        path.unlink()
        path.mkdir()
    elif damage == "no epoch":
        safetensors.torch.save_file(tensors, path, metadata={"key": "sparse:4", "epoch": "-3"})
    elif damage == "lacking":
        del tensors["weight.1.bias"]
        safetensors.torch.save_file(tensors, path, metadata={"key": "sparse:4", "epoch": "7"})
    elif damage == "misshapen":
        tensors["weight.1.bias"] = torch.zeros(3)
        safetensors.torch.save_file(tensors, path, metadata={"key": "sparse:4", "epoch": "7"})
    fresh = Training(path)
    before = fresh.weights()
    assert fresh.checkpoint.load() == 0 and fresh.weights() == before


def test_it_is_replaced_whole(path: Path) -> None:
    training = Training(path)
    for epoch in (1, 2, 3):
        training.step()
        training.checkpoint.save(epoch)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert Training(path).checkpoint.load() == 3
