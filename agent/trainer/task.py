"""What a job's samples are trained as: views of them, with what each is to be told as."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from agent.trainer.inputs import Inputs
from agent.trainer.teacher import Taught
from transfer.questions import to_tensor
from transfer.views import view

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Task:
    """m views of the samples that train: where each comes from, `rows` [m] (sample) and `numbers` [m] (view), and
    `targets` [m]: indices into the labels, or UNLABELLED."""

    inputs: Inputs
    rows: Rows
    numbers: Rows
    targets: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, batch: Rows) -> npt.NDArray[np.uint8]:
        """uint8 [b, h, w, 3]. Made when they are needed: together the views would be several times the samples."""
        model, ids = self.inputs.model.manifest, self.inputs.job.sample_ids
        named = zip(self.rows[batch], self.numbers[batch], strict=True)
        return np.stack([view(self.inputs.images[row], ids[row], int(n), flip=model.flip) for row, n in named])

    def tensor(self, batch: Rows) -> Tensor:
        """What a network takes: [b, 3, h, w]."""
        return to_tensor(self.images(batch), self.inputs.model.manifest.input)


def task_of(inputs: Inputs, taught: Taught | None) -> Task:
    """The views that the teacher has answered about; without a teacher as many as the job says."""
    count = inputs.job.views if taught is None else taught.logits.shape[1]
    rows, numbers = (part.ravel() for part in np.meshgrid(np.flatnonzero(inputs.used), np.arange(count), indexing="ij"))
    return Task(inputs, rows, numbers, inputs.assigned[rows])
