"""What the teacher says about the training images, computed once for each view and kept in the cache directory."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cloud_teacher.datasets import Dataset
from cloud_teacher.zoo import Teacher
from transfer.durable import write_atomic
from transfer.views import view

Logits = npt.NDArray[np.float32]
BATCH = 128


def picture(data: Dataset, row: int, index: int) -> npt.NDArray[np.uint8]:
    """View `index` of training image `row`: the same for teacher and student."""
    return view(data.train_images[row], f"train:{row}", index, flip=data.flip)


class TeacherLogits:
    """Logits [n, C] of the training images `rows`, one array for each view."""

    def __init__(self, teacher: Teacher, data: Dataset, rows: npt.NDArray[np.int64], cache_dir: Path | None) -> None:
        self._teacher, self._data, self._rows, self._cache_dir = teacher, data, rows, cache_dir
        self._views: dict[int, Logits] = {}
        key = f"{teacher.digest} {data.fingerprint} {hashlib.sha256(rows.tobytes()).hexdigest()}"
        self._name = f"logits-{hashlib.sha256(key.encode()).hexdigest()[:24]}"

    def of(self, index: int) -> Logits:
        """Of a view that was prepared."""
        return self._views[index]

    def prepare(self, index: int, report: Callable[[int, int], None]) -> None:
        """Have the view's logits ready: from the cache, or by asking the teacher. `report`: images done and total."""
        path = self._cache_dir / f"{self._name}-{index}.npy" if self._cache_dir else None
        logits = _cached(path, (len(self._rows), len(self._teacher.labels))) if path else None
        if logits is None:
            logits = self._asked(index, report)
            if path:
                file = io.BytesIO()
                np.save(file, logits)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, file.getvalue())
        self._views[index] = logits
        report(len(self._rows), len(self._rows))

    def _asked(self, index: int, report: Callable[[int, int], None]) -> Logits:
        parts = []
        for start in range(0, len(self._rows), BATCH):
            report(start, len(self._rows))
            rows = self._rows[start : start + BATCH]
            parts.append(self._teacher.logits(np.stack([picture(self._data, int(row), index) for row in rows])))
        return np.concatenate(parts)


def _cached(path: Path, shape: tuple[int, int]) -> Logits | None:
    try:
        logits = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return logits if logits.shape == shape and logits.dtype == np.float32 else None
