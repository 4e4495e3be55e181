"""What the teacher says about training images, computed once for each view and kept in the cache directory.

A view is named after the image's content, and the cache after a category's images, so students that know different
categories, and all benchmarks, ask the teacher only once.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cloud_teacher import compute
from cloud_teacher.datasets import Dataset
from cloud_teacher.zoo import Teacher
from transfer.durable import write_atomic
from transfer.questions import to_tensor
from transfer.views import view

Images = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.float16]
BATCH = 128


class Said(NamedTuple):
    """logits [n, C] and features [n, D] (the mean over the last block's map), float32."""

    logits: Tensor
    features: Tensor


def picture(image: Images, index: int, *, flip: bool) -> Images:
    """View `index` of a training image: the same for teacher and student, in every data set that holds the image."""
    name = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=12).hexdigest()
    return view(image, f"train:{name}", index, flip=flip)


class TeacherOutputs:
    """The teacher's outputs on all training images of `data`, by view. Only what was prepared can be had."""

    def __init__(self, teacher: Teacher, data: Dataset, cache_dir: Path | None) -> None:
        self._teacher, self._data, self._cache_dir = teacher, data, cache_dir
        self._views: dict[int, Halves] = {}

    def of(self, index: int, rows: npt.NDArray[np.int64]) -> Said:
        """Of view `index` of the images `rows`."""
        both = torch.from_numpy(self._views[index][rows]).float()
        classes = len(self._teacher.labels)
        return Said(both[:, :classes], both[:, classes:])

    def prepare(self, views: int, report: Callable[[int, int], None]) -> None:
        """Have the first `views` views ready: from the cache, or by asking. `report`: images done and total."""
        images, targets = self._data.train_images, self._data.train_targets
        width = len(self._teacher.labels) + self._teacher.feature_width
        total = views * len(images)
        done = 0
        for index in range(views):
            outputs = np.empty((len(images), width), np.float16)
            for category in range(len(self._data.labels)):
                rows = np.flatnonzero(targets == category)
                outputs[rows] = self._category(images[rows], index, width, partial(_report_from, report, done, total))
                done += len(rows)
                report(done, total)
            self._views[index] = outputs

    def _category(self, images: Images, index: int, width: int, report: Callable[[int], None]) -> Halves:
        content = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
        key = f"{self._teacher.digest} {content} {self._data.flip}"
        name = f"outputs-{hashlib.sha256(key.encode()).hexdigest()[:24]}-{index}.npy"
        path = self._cache_dir / name if self._cache_dir else None
        outputs = _cached(path, (len(images), width)) if path else None
        if outputs is None:
            outputs = self._asked(images, index, report)
            if path:
                file = io.BytesIO()
                np.save(file, outputs)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, file.getvalue())
        return outputs

    @torch.no_grad()
    def _asked(self, images: Images, index: int, report: Callable[[int], None]) -> Halves:
        net = self._teacher.module.to(compute.device())
        parts = []
        for start in range(0, len(images), BATCH):
            report(start)
            batch = [picture(image, index, flip=self._data.flip) for image in images[start : start + BATCH]]
            with compute.rounded():
                out = net(to_tensor(np.stack(batch), self._teacher.input).to(compute.device()))
            parts.append(torch.cat([out.logits.float(), out.feature.float()], dim=1).half().cpu().numpy())
        net.cpu()
        return np.concatenate(parts)


def _report_from(report: Callable[[int, int], None], done: int, total: int, more: int) -> None:
    report(done + more, total)


def _cached(path: Path, shape: tuple[int, int]) -> Halves | None:
    try:
        outputs = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return outputs if outputs.shape == shape and outputs.dtype == np.float16 else None
