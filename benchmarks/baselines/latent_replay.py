"""Latent replay (Pellegrini et al. 2020): what enters the last block is stored of some old images, as int8, and trains
the last block and the classifier together with the new images. So data of old images stays on the device, which no
other method here but joint training needs."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.baselines.choice import Choice
from benchmarks.baselines.gradient import BATCH, EPOCHS, batches, descend
from benchmarks.baselines.old_images import trained_on
from benchmarks.baselines.start import Images, grown, of_student, outputs
from benchmarks.setting import Setting
from benchmarks.students import Student
from cloud_teacher import compute
from transfer.networks import Network
from transfer.operations import sources
from transfer.questions import to_tensor
from transfer.spec import NetSpec

BUDGET_BYTES = 2**20
Latents = dict[str, Tensor]
"""Tensor name to int8 values [n, ...] of all that the last block and what follows it needs."""


class LatentReplay:
    """See `learner.Learner`. After a category is learned, as many of its latents are kept as of each other one."""

    def __init__(self, setting: Setting, student: Student, seed: int, choice: Choice) -> None:
        self._start, self._seed, self._choice = of_student(student), seed, choice
        self._position = last_block(self._start.net)
        self.seconds = 0.0
        images, targets = trained_on(setting, self.labels, setting.plan.new_images, f"replay:{seed}")
        one = self._latents(images[:1])
        self.each = max(1, BUDGET_BYTES // sum(t[0].numel() for t in one.values()) // (len(setting.dataset.labels) - 1))
        kept = np.concatenate([np.flatnonzero(targets == at)[: self.each] for at in range(len(self.labels))])
        whole = self._latents(images[kept])
        self._scales = {name: float(values.abs().max().clamp(min=1e-8)) / 127 for name, values in whole.items()}
        self._stored, self._targets = self._quantised(whole), torch.from_numpy(targets[kept])

    @property
    def labels(self) -> tuple[str, ...]:
        return self._start.labels

    @property
    def net(self) -> NetSpec:
        return self._start.net.spec

    @property
    def stored_bytes(self) -> int:
        return sum(values.numel() for values in self._stored.values())

    def learn(self, category: str, images: Images) -> None:
        began_s = time.monotonic()
        net = grown(self._start, images, self._choice.row, self._seed)
        fresh = self._quantised(self._latents(images))
        count, stored = len(images), len(self._targets)
        order = [rows for epoch in range(EPOCHS) for rows in batches(count, epoch, self._seed)]
        replayed = np.random.default_rng(self._seed).integers(0, stored, (len(order), BATCH))

        def loss_at(step: int) -> Tensor:
            """Half of a batch is new, half is replayed."""
            new, old = torch.from_numpy(order[step]), torch.from_numpy(replayed[step][: len(order[step])])
            values = {
                name: torch.cat([fresh[name][new], self._stored[name][old]]).to(compute.device()) * self._scales[name]
                for name in fresh
            }
            targets = torch.cat([torch.full((len(new),), len(self.labels)), self._targets[old]])
            return functional.cross_entropy(net.after(values, self._position).logits, targets.to(compute.device()))

        descend(self._moving(net), len(order), self._choice.rate, loss_at)
        kept = {name: torch.cat([self._stored[name], fresh[name][: self.each]]) for name in fresh}
        targets = torch.full((min(count, self.each),), len(self.labels))
        self._stored, self._targets = kept, torch.cat([self._targets, targets])
        self._start = replace(self._start, net=net.cpu(), labels=(*self.labels, category))
        self.seconds += time.monotonic() - began_s

    def predict(self, images: Images) -> npt.NDArray[np.int64]:
        logits = outputs(self._start.net, images, self._start.input)[0]
        return np.asarray(logits[:, : len(self.labels)].argmax(dim=1).numpy(), np.int64)

    def _latents(self, images: Images) -> Latents:
        """The student's own, before any step: what is before the last block never moves."""
        with torch.no_grad():
            parts = [
                self._start.net.before(to_tensor(images[at : at + BATCH], self._start.input), self._position)
                for at in range(0, len(images), BATCH)
            ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _quantised(self, latents: Latents) -> Latents:
        return {
            name: (values / self._scales[name]).round().clamp(-127, 127).to(torch.int8)
            for name, values in latents.items()
        }

    def _moving(self, net: Network) -> list[torch.nn.Parameter]:
        behind = tuple(f"{operation.name}." for operation in net.blueprint.operations[self._position :])
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name.startswith(behind))
        return [parameter for parameter in net.parameters() if parameter.requires_grad]


def last_block(net: Network) -> int:
    """The position of the first operation that takes what the block before the last one has made."""
    maps = [name for group in net.blueprint.blocks for name in group]
    return next(at for at, operation in enumerate(net.blueprint.operations) if maps[-2] in sources(operation))
