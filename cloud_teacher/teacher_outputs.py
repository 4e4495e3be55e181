"""What the teacher says about training images, computed once for each view and kept in the cache directory.

A view is named after the image's content, and the cache after a category's images, so students that know different
categories, and all benchmarks, ask the teacher only once. Mixed views hold two images each, and are one student's own.
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
from cloud_teacher.mixed_views import mixed, partners
from cloud_teacher.zoo import Teacher
from transfer.durable import write_atomic
from transfer.questions import to_tensor
from transfer.views import view

Images = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.float16]
Rows = npt.NDArray[np.int64]
BATCH = 128


class Said(NamedTuple):
    """logits [n, C] and features [n, D] (the mean over the last block's map), float32."""

    logits: Tensor
    features: Tensor


class TeacherOutputs:
    """The teacher's outputs on the training images of `data`, by view. Only what was prepared can be had.

    mixing: these rows are mixed with each other in every second view (`cloud_teacher.mixed_views`), and then only of
    them anything can be had; no view is mixed where it is None.
    """

    def __init__(self, teacher: Teacher, data: Dataset, cache_dir: Path | None, mixing: Rows | None = None) -> None:
        self._teacher, self._data, self._cache_dir, self._mixing = teacher, data, cache_dir, mixing
        self._views: dict[int, Halves] = {}
        self._names = [_name(image) for image in data.train_images]
        self._others: dict[int, Rows] = {}

    def mixes(self, index: int) -> bool:
        """Whether view `index` is a mixed one, which no single label is true of."""
        return self._mixing is not None and index % 2 == 1

    def pictures(self, index: int, rows: Rows) -> Images:
        """View `index` of the images `rows`, uint8 [n, h, w, 3]: what the teacher was asked about."""
        plain = self._plain(index, rows)
        if not self.mixes(index):
            return plain
        others = self._plain(index, self._partners(index)[rows])
        return mixed(plain, others, [self._names[row] for row in rows], index)

    def of(self, index: int, rows: Rows) -> Said:
        """Of view `index` of the images `rows`."""
        both = torch.from_numpy(self._views[index][rows]).float()
        classes = len(self._teacher.labels)
        return Said(both[:, :classes], both[:, classes:])

    def prepare(self, views: int, report: Callable[[int, int], None]) -> None:
        """Have the first `views` views ready: from the cache, or by asking. `report`: images done and total."""
        width = len(self._teacher.labels) + self._teacher.feature_width
        parts = [self._parts(index) for index in range(views)]
        total = sum(len(rows) for part in parts for rows in part)
        done = 0
        for index, part in enumerate(parts):
            outputs = np.zeros((len(self._names), width), np.float16)
            for rows in part:
                outputs[rows] = self._cached(rows, index, width, partial(_report_from, report, done, total))
                done += len(rows)
                report(done, total)
            self._views[index] = outputs

    def _parts(self, index: int) -> list[Rows]:
        """The rows that are asked about, and cached, together: of plain views each category's, whoever needs them."""
        if self._mixing is not None and self.mixes(index):
            return [self._mixing]
        targets = self._data.train_targets
        return [np.flatnonzero(targets == category) for category in range(len(self._data.labels))]

    def _cached(self, rows: Rows, index: int, width: int, report: Callable[[int], None]) -> Halves:
        content = hashlib.sha256(np.ascontiguousarray(self._data.train_images[rows]).tobytes()).hexdigest()
        key = f"{self._teacher.digest} {content} {self._data.flip}" + (" mixed" if self.mixes(index) else "")
        name = f"outputs-{hashlib.sha256(key.encode()).hexdigest()[:24]}-{index}.npy"
        path = self._cache_dir / name if self._cache_dir else None
        outputs = _read(path, (len(rows), width)) if path else None
        if outputs is None:
            outputs = self._asked(rows, index, report)
            if path:
                file = io.BytesIO()
                np.save(file, outputs)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, file.getvalue())
        return outputs

    @torch.no_grad()
    def _asked(self, rows: Rows, index: int, report: Callable[[int], None]) -> Halves:
        net = self._teacher.module.to(compute.device())
        parts = []
        for start in range(0, len(rows), BATCH):
            report(start)
            batch = self.pictures(index, rows[start : start + BATCH])
            with compute.rounded():
                out = net(to_tensor(batch, self._teacher.input).to(compute.device()))
            parts.append(torch.cat([out.logits.float(), out.feature.float()], dim=1).half().cpu().numpy())
        net.cpu()
        return np.concatenate(parts)

    def _plain(self, index: int, rows: Rows) -> Images:
        images, names = self._data.train_images, self._names
        return np.stack([view(images[row], f"train:{names[row]}", index, flip=self._data.flip) for row in rows])

    def _partners(self, index: int) -> Rows:
        """[all rows], -1 for those that are not mixed."""
        if index not in self._others:
            assert self._mixing is not None
            other = np.full(len(self._names), -1, np.int64)
            other[self._mixing] = self._mixing[partners([self._names[row] for row in self._mixing], index)]
            self._others[index] = other
        return self._others[index]


def _name(image: Images) -> str:
    """A view's name comes from the image's content: it is the same in every data set that holds the image."""
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=12).hexdigest()


def _report_from(report: Callable[[int, int], None], done: int, total: int, more: int) -> None:
    report(done + more, total)


def _read(path: Path, shape: tuple[int, int]) -> Halves | None:
    try:
        outputs = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return outputs if outputs.shape == shape and outputs.dtype == np.float16 else None
