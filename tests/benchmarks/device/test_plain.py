"""The peer really trains everything, in training mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.device import model, plain
from benchmarks.device.plain import FineTuning
from transfer import bundle
from transfer.networks import build, weights_of
from transfer.spec import resnet_cifar

SPEC = resnet_cifar(8, len(model.LABELS), widths=(4, 6, 8))


def test_every_weight_and_statistic_moves_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    net = build(SPEC, model.random_weights(SPEC, 0))
    before = weights_of(net)
    images, targets = model.images(8, seed=3), np.repeat(np.arange(10), 8)
    training = FineTuning(net, images, targets, model.INPUT, rate=0.05)
    rows = np.arange(0, 80, 2)

    def loss() -> float:
        with torch.no_grad():
            logits = net(training._images[rows]).logits
        return float(functional.cross_entropy(logits, torch.from_numpy(targets[rows])))

    first = loss()
    for _ in range(6):
        training.step(rows)
    assert loss() < first
    after = weights_of(net)
    assert all(not np.array_equal(after[name], array) for name, array in before.items())


def test_it_runs_on_a_bundle_as_a_program(tmp_path: Path) -> None:
    folder = model.bundle_of_half_a_million(tmp_path / "bundle", spec=SPEC)
    before = bundle.load(folder, trusted=None).digest
    plain.main(folder, steps=1)
    assert bundle.load(folder, trusted=None).digest == before
