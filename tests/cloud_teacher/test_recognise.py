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
    with pytest.raises(DatasetError, match="is empty"):
        recognise("auto", tmp_path, cache_dir=tmp_path / "cache")


def test_cifar_is_recognised_by_its_files_and_no_other_folder_for_it(tmp_path: Path) -> None:
    for folder, files in (
        ("cifar-10-batches-py", ("data_batch_1", "test_batch")),
        ("cifar-100-python", ("train", "test")),
    ):
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"data_batch_1 cannot be read as a CIFAR-10 batch"):
        recognise("auto", tmp_path / "cifar-10-batches-py")
    with pytest.raises(DatasetError, match=r"train cannot be read as a CIFAR-100 batch"):
        recognise("auto", tmp_path / "cifar-100-python")
    with pytest.raises(DatasetError, match=r"several data sets: give --data-dir .*py or --data-dir .*python"):
        recognise("auto", tmp_path)
    with pytest.raises(DatasetError, match=r"train cannot be read as a CIFAR-100 batch"):
        recognise("cifar100", tmp_path)
    for part in ("train", "test"):
        (tmp_path / "photographs" / part / "cat").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"no categories found in .*photographs"):
        recognise("auto", tmp_path / "photographs")


def test_real_cifar10_is_recognised_and_whole(shared_dir: Path, tmp_path: Path) -> None:
    data = recognise("auto", shared_dir / "data" / "cifar-10-batches-py", cache_dir=tmp_path)
    assert data.name == "cifar10"
    assert np.bincount(data.train_targets).tolist() == [5000] * 10
    assert np.bincount(data.test_targets).tolist() == [1000] * 10
