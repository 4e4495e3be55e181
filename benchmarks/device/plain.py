"""Full fine-tuning as a user of PyTorch writes it: every weight moves, batch norms in training mode, SGD with momentum,
maps as PyTorch lays them out by itself.

`python -m benchmarks.device.plain BUNDLE` takes a few steps on noise, for whoever measures the process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from transfer import bundle
from transfer.networks import Network, build
from transfer.preprocess import normalise
from transfer.spec import InputSpec

BATCH = 64
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


class FineTuning:
    """Trains `net` on images uint8 [n, h, w, 3] of targets int64 [n]."""

    def __init__(
        self, net: Network, images: npt.NDArray[np.uint8], targets: npt.NDArray[np.int64], size: InputSpec, rate: float
    ) -> None:
        self._net = net.train().requires_grad_(True)
        self._images = torch.from_numpy(normalise(images, size)).permute(0, 3, 1, 2).contiguous()
        self._targets = torch.from_numpy(targets)
        self.optimiser = torch.optim.SGD(net.parameters(), rate, MOMENTUM, weight_decay=WEIGHT_DECAY)

    def step(self, rows: npt.NDArray[np.int64]) -> None:
        """One step on the images numbered `rows`."""
        batch = torch.from_numpy(rows)
        self.optimiser.zero_grad()
        functional.cross_entropy(self._net(self._images[batch]).logits, self._targets[batch]).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()


def main(folder: Path, *, steps: int = 3) -> None:
    torch.set_num_threads(1)
    model = bundle.load(folder, trusted=None)
    size, classes = model.manifest.input, model.manifest.net.classes
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, size.height, size.width, 3), np.uint8)
    training = FineTuning(
        build(model.manifest.net, model.weights()), images, rng.integers(0, classes, BATCH), size, rate=1e-3
    )
    for _ in range(steps):
        training.step(np.arange(BATCH))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
