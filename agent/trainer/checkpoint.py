"""Where a killed training goes on: weights that move, their momentum, and the epoch, replaced atomically."""

from __future__ import annotations

import contextlib
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from transfer.durable import write_atomic


class Checkpoint:
    """`key` says what was being trained; a checkpoint of anything else is not used."""

    def __init__(self, path: Path, net: nn.Module, optimiser: torch.optim.Optimizer, *, key: str) -> None:
        self._path, self._key, self._optimiser = path, key, optimiser
        self._moving = {name: p for name, p in net.named_parameters() if p.requires_grad}

    def save(self, epoch: int) -> None:
        """`epoch` is the one to go on with. An epoch interrupted in its middle is done again from these weights."""
        tensors = {f"weight.{name}": p.detach() for name, p in self._moving.items()}
        for name, p in self._moving.items():
            momentum = self._optimiser.state[p].get("momentum_buffer") if p in self._optimiser.state else None
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        data = safetensors.torch.save(tensors, metadata={"key": self._key, "epoch": str(epoch)})
        write_atomic(self._path, data)

    def load(self) -> int:
        """The epoch to go on with: 0 where there is no checkpoint of this training that can be read."""
        try:
            with safetensors.safe_open(self._path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        except (OSError, safetensors.SafetensorError):
            return 0
        if metadata.get("key") != self._key or not metadata.get("epoch", "").isdigit():
            return 0
        if any(f"weight.{name}" not in tensors for name in self._moving):
            return 0
        with torch.no_grad():
            for name, p in self._moving.items():
                p.copy_(tensors[f"weight.{name}"])
                with contextlib.suppress(KeyError):
                    self._optimiser.state[p]["momentum_buffer"] = tensors[f"momentum.{name}"].clone()
        return int(metadata["epoch"])
