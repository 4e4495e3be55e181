from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_teacher.datasets import DatasetError
from cloud_teacher.unlabelled import unlabelled
from transfer.spec import InputSpec

SPEC = InputSpec(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def photograph(path: Path, seed: int, size: tuple[int, int] = (40, 60)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_every_picture_at_any_depth_whole_and_in_parts(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 0)
    photograph(tmp_path / "deep" / "er" / "b.PNG", 1)
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "notes.txt").write_text("nothing")
    pictures = unlabelled(tmp_path, SPEC, parts=5)
    assert pictures.shape == (10, 16, 16, 3) and pictures.dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) == 10
    assert np.array_equal(pictures, unlabelled(tmp_path, SPEC, parts=5))


def test_parts_follow_the_file_not_its_name(tmp_path: Path) -> None:
    photograph(tmp_path / "one" / "a.png", 3)
    photograph(tmp_path / "two" / "z.png", 3)
    assert np.array_equal(unlabelled(tmp_path / "one", SPEC), unlabelled(tmp_path / "two", SPEC))


def test_no_folder_and_no_picture_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is no folder"):
        unlabelled(tmp_path / "missing", SPEC)
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"no usable image file \(1 were unusable\)"):
        unlabelled(tmp_path, SPEC)
