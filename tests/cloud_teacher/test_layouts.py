from __future__ import annotations

from pathlib import Path

import pytest

from cloud_teacher.datasets import DatasetError
from cloud_teacher.layouts import categories, layout


def images(root: Path, *names: str) -> Path:
    """Empty files of these names: layouts go by names alone."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_category_folders(tmp_path: Path) -> None:
    images(tmp_path, "cat/1.jpg", "dog/1.PNG", "dog/notes.txt", ".thumbnails/1.jpg", "loose.jpg")
    (tmp_path / "empty").mkdir()
    found = layout(tmp_path)
    assert (found.train, found.test) == (tmp_path, None)
    assert categories(tmp_path) == {"cat": [tmp_path / "cat"], "dog": [tmp_path / "dog"]}
    assert sorted(remark.split(": ", 1)[1] for remark in found.remarks) == [
        "1 images beside the category folders",
        "no image directly in it",
    ]


@pytest.mark.parametrize(("train", "test"), [("train", "val"), ("Train", "Test"), ("training", "validation")])
def test_train_and_test_folders(tmp_path: Path, train: str, test: str) -> None:
    images(tmp_path, f"{train}/cat/1.jpg", f"{train}/dog/1.jpg", f"{test}/cat/2.jpg", f"{test}/dog/2.jpg", "info.csv")
    assert layout(tmp_path) == (tmp_path / train, tmp_path / test, ())


def test_of_two_test_folders_one_is_used_and_the_other_named(tmp_path: Path) -> None:
    images(tmp_path, *(f"{part}/{name}/1.jpg" for part in ("train", "val", "test") for name in ("cat", "dog")))
    found = layout(tmp_path)
    assert found.test == tmp_path / "val"
    assert found.remarks == (f"{tmp_path / 'test'}: not used: {tmp_path / 'val'} is what is tested with",)


def test_train_and_test_may_be_categories_themselves(tmp_path: Path) -> None:
    images(tmp_path, "train/steam.jpg", "test/tube.jpg")
    assert layout(tmp_path).test is None and set(categories(tmp_path)) == {"train", "test"}


def test_imagenettes_wordnet_ids_become_names(tmp_path: Path) -> None:
    images(tmp_path, *(f"{part}/{name}/1.JPEG" for part in ("train", "val") for name in ("n01440764", "n09999999")))
    assert set(categories(layout(tmp_path).train)) == {"tench", "n09999999"}


@pytest.mark.parametrize("inside", [True, False])
def test_caltech101_without_its_background(tmp_path: Path, inside: bool) -> None:
    root = tmp_path / "101_ObjectCategories"
    images(root, *(f"{name}/image_0001.jpg" for name in ("accordion", "Faces", "BACKGROUND_Google")))
    images(tmp_path, "Annotations/accordion/annotation_0001.mat", "show_annotation.m", "101_ObjectCategories.tar.gz")
    found = layout(root if inside else tmp_path)
    assert found.train == root and set(categories(root)) == {"accordion", "Faces"}
    (remark,) = found.remarks
    assert "BACKGROUND_Google: left out" in remark


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ((), "is empty"),
        (("a.jpg", "b.jpg"), r"2 images at its top level.*put each into a folder named after its category"),
        (("cats/a.jpg",), r"only one category \(cats\)"),
        (("cats/a.jpg", "b.jpg"), "1 images at its top level"),
        (("imagenette2-160.tgz",), r"imagenette2-160\.tgz, not unpacked: run tar -xf '.*imagenette2-160\.tgz'"),
        (("caltech-101.zip",), r"not unpacked: run unzip '.*caltech-101\.zip'"),
        (("readme.md",), r"it has no folders, only files such as readme\.md"),
        (("a/1.heic", "b/1.heic"), r"its folders \(a, b\) hold files of type \.heic"),
        (("photos/cat/1.jpg", "photos/dog/1.jpg", "x.txt"), r"only a folder around .*--data-dir .*/photos$"),
        (("a/b/cat/1.jpg", "a/b/dog/1.jpg"), r"--data-dir .*/a/b$"),
        (("train/cat/1.jpg", "train/dog/1.jpg"), r"--data-dir .*/train$"),
        (("c/cifar-100-python/train", "c/cifar-100-python/test"), r"--data-dir .*/c/cifar-100-python$"),
        (("one/cat/1.jpg", "one/dog/1.jpg", "two/cat/1.jpg", "two/dog/1.jpg"), r"--data-dir .*/one or .*/two$"),
    ],
)
def test_a_folder_that_cannot_be_used_is_told_why_and_what_would_work(
    tmp_path: Path, files: tuple[str, ...], says: str
) -> None:
    with pytest.raises(DatasetError, match=says):
        layout(images(tmp_path, *files))


def test_what_is_no_folder_is_told_what_it_is(tmp_path: Path) -> None:
    images(tmp_path, "data.tar.gz", "picture.jpg")
    with pytest.raises(DatasetError, match="is no folder: there is nothing of this name"):
        layout(tmp_path / "absent")
    with pytest.raises(DatasetError, match=r"is an archive: unpack it \(tar -xf '.*data\.tar\.gz'\)"):
        layout(tmp_path / "data.tar.gz")
    with pytest.raises(DatasetError, match="is no folder but a file"):
        layout(tmp_path / "picture.jpg")
