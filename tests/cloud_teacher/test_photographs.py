from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloud_teacher.datasets import DatasetError
from cloud_teacher.layouts import layout
from cloud_teacher.photographs import find, folder

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 30, 210)}


def paint(root: Path, per_class: int, suffixes: tuple[str, ...] = (".jpg", ".PNG", ".jpeg")) -> Path:
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            size = (20 + 7 * index, 50 - 3 * index)
            suffix = suffixes[index % len(suffixes)]
            Image.new("RGB", size, colour).save(root / name / f"{name}-{index}{suffix}")
    return root


def test_categories_are_folders_and_images_are_fitted(tmp_path: Path) -> None:
    data = folder(paint(tmp_path / "data", 10), tmp_path / "cache", size=24)
    assert data.labels == ("blue", "green", "red")
    assert data.train_images.shape == (24, 24, 24, 3) and data.test_images.shape == (6, 24, 24, 3)
    for images, targets in ((data.train_images, data.train_targets), (data.test_images, data.test_targets)):
        for index, label in enumerate(data.labels):
            colour = images[targets == index].mean(axis=(0, 1, 2))
            assert np.abs(colour - COLOURS[label]).max() < 4


def test_the_split_is_the_same_on_every_run_and_stable_when_files_come(tmp_path: Path) -> None:
    root = paint(tmp_path / "data", 10)
    before = {photograph.path: photograph.test for photograph in find(layout(root))}
    assert before == {photograph.path: photograph.test for photograph in find(layout(root))}
    Image.new("RGB", (9, 9)).save(root / "red" / "one-more.png")
    after = {photograph.path: photograph.test for photograph in find(layout(root))}
    assert sum(after[path] != test for path, test in before.items()) <= 1


def test_train_and_val_folders_are_the_split(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "train", 5)
    paint(tmp_path / "data" / "val", 2)
    data = folder(tmp_path / "data", tmp_path / "cache", size=8)
    assert (len(data.train_images), len(data.test_images)) == (15, 6)


def test_images_are_decoded_once(tmp_path: Path) -> None:
    root, calls = paint(tmp_path / "data", 5), []

    def report(stage: str, done: int, total: int, detail: str = "") -> None:
        calls.append(stage)

    first = folder(root, tmp_path / "cache", size=8, report=report)
    assert calls
    calls.clear()
    again = folder(root, tmp_path / "cache", size=8, report=report)
    assert not calls
    assert np.array_equal(first.train_images, again.train_images) and first.fingerprint == again.fingerprint
    Image.new("RGB", (9, 9)).save(root / "red" / "red-0.jpg")
    folder(root, tmp_path / "cache", size=8, report=report)
    assert calls, "a changed file must be decoded again"


def test_an_interrupted_decoding_is_done_again(tmp_path: Path) -> None:
    root, cache = paint(tmp_path / "data", 5), tmp_path / "cache"
    first = np.array(folder(root, cache, size=8).train_images)
    (images,) = cache.glob("images-*.npy")
    images.write_bytes(b"half")
    images.with_suffix(".json").unlink()
    assert np.array_equal(folder(root, cache, size=8).train_images, first)


def test_bad_files_are_skipped_and_named(tmp_path: Path) -> None:
    root = paint(tmp_path / "data", 10)
    whole = (root / "red" / "red-0.jpg").read_bytes()
    (root / "red" / "empty.jpg").write_bytes(b"")
    (root / "blue" / "text.png").write_text("no image")
    (root / "green" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "green" / "notes.txt").write_text("not looked at")
    (root / "green" / ".hidden.jpg").write_text("not looked at")
    data = folder(root, tmp_path / "cache", size=8)
    assert len(data.train_images) + len(data.test_images) == 30
    assert sorted(Path(line.split(":")[0]).name for line in data.skipped) == ["cut.jpg", "empty.jpg", "text.png"]
    assert any("empty" in line for line in data.skipped)


def test_data_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DatasetError, match="is no folder"):
        folder(tmp_path / "absent", cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="is empty"):
        folder(tmp_path / "empty", cache)
    (tmp_path / "one" / "cats").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "one" / "cats" / "a.png")
    with pytest.raises(DatasetError, match=r"only one category \(cats\)"):
        folder(tmp_path / "one", cache)


def test_categories_with_too_few_usable_images_are_named(tmp_path: Path) -> None:
    root = paint(tmp_path / "data", 6)
    for index in range(2):
        (root / "green" / f"green-{index}.jpg").unlink(missing_ok=True)
        (root / "green" / f"green-{index}.PNG").unlink(missing_ok=True)
    with pytest.raises(DatasetError, match=r"too few usable images of green \(\d train, \d test\)"):
        folder(root, tmp_path / "cache")


def test_train_and_val_must_have_the_same_categories(tmp_path: Path) -> None:
    paint(tmp_path / "data" / "train", 5)
    paint(tmp_path / "data" / "val", 5)
    (tmp_path / "data" / "val" / "red").rename(tmp_path / "data" / "val" / "pink")
    with pytest.raises(DatasetError, match="only one has pink, red"):
        find(layout(tmp_path / "data"))


def test_real_photographs(shared_dir: Path, tmp_path: Path) -> None:
    found = find(layout(shared_dir / "data" / "imagenette-small"))
    assert len(found) == 1700 and sum(photograph.test for photograph in found) == 500
