"""The steps are torch's own, to the last bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from agent.trainer.nesterov import MOMENTUM, Nesterov


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))


def slopes(taught: nn.Module, seed: int) -> None:
    x = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    functional.cross_entropy(taught(x), torch.tensor([0, 1, 1, 0])).backward()


def named(taught: nn.Module) -> dict[str, Tensor]:
    return dict(taught.named_parameters())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(1e-4, 0.3))
@settings(deadline=None, max_examples=30)
def test_it_steps_as_torch_does(shares: list[float], rate: float) -> None:
    mine, theirs = net(), net()
    rates = {name: rate * (10 if name.startswith("3.") else 1) for name in named(mine)}
    ours = Nesterov(named(mine), rates)
    reference = torch.optim.SGD(
        [{"params": [p], "lr": rates[name]} for name, p in named(theirs).items()], momentum=MOMENTUM, nesterov=True
    )
    for seed, share in enumerate(shares):
        slopes(mine, seed)
        ours.step(share)
        for group, name in zip(reference.param_groups, rates, strict=True):
            group["lr"] = rates[name] * share
        reference.zero_grad()
        slopes(theirs, seed)
        reference.step()
    assert all(torch.equal(named(mine)[name], p) for name, p in named(theirs).items())


def test_gradients_are_used_up_and_what_has_none_stays() -> None:
    taught = net()
    ours = Nesterov(named(taught), dict.fromkeys(named(taught), 0.1))
    slopes(taught, 0)
    taught[0].weight.grad = None
    before = taught[0].weight.clone()
    ours.step()
    assert torch.equal(taught[0].weight, before) and all(p.grad is None for p in taught.parameters())
    assert not ours.momentum["0.weight"].any() and ours.momentum["3.weight"].any()


@pytest.mark.parametrize("made", ["Nesterov({'w': w}, {'w': 0.1})", "torch.optim.SGD([w], 0.1)"])
def test_it_does_without_torchs_compiler(root: Path, made: str) -> None:
    """The second case shows that the first one would notice."""
    code = (
        "import sys, torch; from agent.trainer.nesterov import Nesterov\n"
        f"w = torch.ones(2, requires_grad=True); steps = {made}; w.sum().backward(); steps.step()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert ended.returncode == ("SGD" in made)
