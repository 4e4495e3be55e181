"""Everything that runs machine code of others, on the processor it is started on: it either ends well or by SIGILL.

Libraries choose instructions at run time, so that importing them proves little: a model is run, and rounds of the
head tier and the transfer tier are trained by the real trainer process.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tiny_world

EACH = 12


def numpy_computes() -> str:
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        a = rng.standard_normal((64, 64)).astype(dtype)
        assert np.allclose(np.linalg.solve(a, a @ a), a, atol=1e-2)
    assert int(np.arange(1000, dtype=np.int8).sum()) == np.arange(1000, dtype=np.int8).astype(int).sum()
    return np.__version__


def litert_serves(world: tiny_world.World) -> str:
    import ai_edge_litert

    classifier = world.classifier()
    for label in tiny_world.OLD:
        said = [verdict.label for verdict in classifier.classify(tiny_world.images(label, 4, seed=7))]
        assert said == [label] * 4, said
    return str(ai_edge_litert.__version__)


def torch_computes() -> str:
    import torch

    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten())
    torch.nn.functional.log_softmax(net(x.to(memory_format=torch.channels_last)), dim=1).sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())
    torch.ones(3, 3, dtype=torch.int8).float() @ torch.ones(3, 3)
    return str(torch.__version__)


def trained(world: tiny_world.World, tier: str) -> str:
    """One round by the real trainer process; the teacher's answer is in its folder."""
    pictures, _ = tiny_world.mixed((tiny_world.NEW, tiny_world.OLD[0]), EACH, seed=9)
    job = world.job(world.folder / f"jobs-{tier}", pictures, tier=tier, epochs=1)
    if tier == "transfer":
        world.answer(job)
    subprocess.run([sys.executable, "-m", "agent.trainer", str(job)], check=True, stdout=subprocess.DEVNULL)
    result = json.loads((job / "result.json").read_text())
    # Without a torch that can be imported the trainer would fall back to the head tier.
    assert result["ok"] and result["tier"] == tier, result
    return f"{sum(label == tiny_world.NEW for label in result['labels'])} images of a new category learned"


def main() -> int:
    print(
        f"{platform.machine()}, Python {platform.python_version()}, QEMU_CPU={os.environ.get('QEMU_CPU', '')}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        world = tiny_world.make(Path(folder))
        steps: dict[str, Callable[[], str]] = {
            "numpy": numpy_computes,
            "LiteRT": lambda: litert_serves(world),
            "torch": torch_computes,
            "head round": lambda: trained(world, "head"),
            "transfer round": lambda: trained(world, "transfer"),
        }
        for name, step in steps.items():
            began_at = time.monotonic()
            said = step()
            print(f"{name:15} good, {time.monotonic() - began_at:.0f} s: {said}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
