from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from cloud_teacher.datasets import DatasetError
from cloud_teacher.pickled_arrays import load


def written(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=3))
    return path


def test_arrays_and_names_are_read(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    content = load(written(tmp_path / "file", {b"data": array, b"names": [b"a", "b", 3]}), "batch", 1000)
    assert np.array_equal(np.asarray(content[b"data"]), array) and content[b"names"] == [b"a", "b", 3]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds no dictionary: no batch"),
        ({b"data": Path("x")}, r"arrays only, but asks for pathlib"),
        ({b"data": np.zeros(2000, np.uint8)}, "larger than 1000 bytes: no batch"),
    ],
)
def test_other_content_is_refused_by_name(tmp_path: Path, content: object, says: str) -> None:
    path = written(tmp_path / "file", content)
    with pytest.raises(DatasetError, match=says) as caught:
        load(path, "batch", 1000)
    assert str(path) in str(caught.value)
