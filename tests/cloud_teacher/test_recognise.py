from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_teacher.datasets import DatasetError
from cloud_teacher.recognise import recognise


def test_recognise(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    assert recognise("auto").name == "digits"
    with pytest.raises(DatasetError, match="needs --data-dir"):
        recognise("folder")
    with pytest.raises(DatasetError, match="unknown data 'mnist'"):
        recognise("mnist")
    with pytest.raises(DatasetError, match="no categories found"):
        recognise("auto", tmp_path, cache_dir=tmp_path / "cache")


def test_real_cifar10_is_recognised_and_whole(shared_dir: Path, tmp_path: Path) -> None:
    data = recognise("auto", shared_dir / "data" / "cifar-10-batches-py", cache_dir=tmp_path)
    assert data.name == "cifar10"
    assert np.bincount(data.train_targets).tolist() == [5000] * 10
    assert np.bincount(data.test_targets).tolist() == [1000] * 10
