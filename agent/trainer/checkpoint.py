"""Where a killed training goes on: weights that move, their momentum and pace, and the epoch, replaced atomically."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch

from agent.trainer.nesterov import Nesterov
from transfer.durable import write_atomic


class Checkpoint:
    """`key` says what was being trained; a checkpoint of anything else is not used."""

    def __init__(self, path: Path, optimiser: Nesterov, *, key: str) -> None:
        self._path, self._key = path, key
        self._tensors = {f"weight.{name}": parameter.detach() for name, parameter in optimiser.parameters.items()}
        self._tensors |= {f"momentum.{name}": momentum for name, momentum in optimiser.momentum.items()}
        self._tensors["pace"] = optimiser.pace

    def save(self, epoch: int) -> None:
        """`epoch` is the one to go on with. An epoch interrupted in its middle is done again from these weights."""
        data = safetensors.torch.save(self._tensors, metadata={"key": self._key, "epoch": str(epoch)})
        write_atomic(self._path, data)

    def load(self) -> int:
        """The epoch to go on with: 0 where there is no checkpoint of this training that can be read."""
        try:
            with safetensors.safe_open(self._path, "pt") as file:
                metadata = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in list(file.keys())}
        except (OSError, safetensors.SafetensorError):
            return 0
        if metadata.get("key") != self._key or not metadata.get("epoch", "").isdigit():
            return 0
        if {name: t.shape for name, t in found.items()} != {name: t.shape for name, t in self._tensors.items()}:
            return 0
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(found[name])
        return int(metadata["epoch"])
