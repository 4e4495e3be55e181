"""Learning without Forgetting (Li and Hoiem 2016): what the network itself said of the new images, before it learned
them, holds its old logits. No teacher."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.baselines.gradient import Batch, Lesson, Loss

TEMPERATURE = 2.0


def loss(lesson: Lesson) -> Loss:
    def loss_of(batch: Batch) -> Tensor:
        with torch.no_grad():
            former = lesson.former(batch.x).logits[:, : lesson.known]
        labels = functional.cross_entropy(batch.out.logits, batch.targets)
        return labels + lesson.choice.weight * softened(batch.out.logits[:, : lesson.known], former, TEMPERATURE)

    return loss_of


def softened(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross entropy between both softmaxes at this temperature, less its smallest value, scaled so that its gradient
    does not depend on the temperature (Hinton et al. 2015)."""
    wanted = functional.softmax(teacher / temperature, dim=1)
    said = functional.log_softmax(student / temperature, dim=1)
    return functional.kl_div(said, wanted, reduction="batchmean") * temperature**2
