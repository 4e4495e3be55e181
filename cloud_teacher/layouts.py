"""Where in a folder the photographs and their categories are; and, where that cannot be told, why not and what to do.

Known are category folders (`DIR/cat/1.jpg`), such folders in `train` and `val` or `test` (Imagenette, ImageNet), and
Caltech-101's `101_ObjectCategories`. Only names are looked at here, no file is opened.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cloud_teacher.cifar import EDITIONS
from cloud_teacher.datasets import DatasetError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zip", ".7z", ".rar")
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("val", "valid", "validation", "test", "testing")
CALTECH = "101_ObjectCategories"
LEFT_OUT = {
    "BACKGROUND_Google": "left out: Caltech-101's pictures of no category, which all others would be mistaken for"
}
WORDNET = {
    "n01440764": "tench",
    "n02102040": "english_springer",
    "n02979186": "cassette_player",
    "n03000684": "chain_saw",
    "n03028079": "church",
    "n03394916": "french_horn",
    "n03417042": "garbage_truck",
    "n03425413": "gas_pump",
    "n03445777": "golf_ball",
    "n03888257": "parachute",
}
"""Imagenette's folders are named by WordNet ids; other ids stay what they are."""
MAX_CHILDREN = 200
"""Of a folder that cannot be used, so many subfolders are tried to name one that could."""
SHOWN = 5


class Layout(NamedTuple):
    """train: the folder of category folders. test: likewise, or None where a part of each category is to be taken.
    remarks: what in the folder is not used, and why."""

    train: Path
    test: Path | None
    remarks: tuple[str, ...]


def layout(data_dir: Path) -> Layout:
    """Raises DatasetError with what is wrong and what would work."""
    if not data_dir.is_dir():
        raise DatasetError(_not_a_folder(data_dir))
    found = _found(data_dir)
    if found is None:
        raise DatasetError(_why_not(data_dir))
    return found


def categories(root: Path) -> dict[str, list[Path]]:
    """The folders of each category in `root` that directly hold images, by the category's name."""
    named: dict[str, list[Path]] = {}
    for folder in _folders(root):
        if folder.name not in LEFT_OUT and next(images(folder), None):
            named.setdefault(WORDNET.get(folder.name, folder.name), []).append(folder)
    return named


def images(folder: Path) -> Iterator[Path]:
    """The files directly in `folder` that are images by their names."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.lower().endswith(SUFFIXES) and not name.startswith(".") and entry.is_file():
                yield Path(entry.path)


def _found(data_dir: Path) -> Layout | None:
    inner = data_dir / CALTECH
    root = inner if inner.is_dir() else data_dir
    by_name = {folder.name.lower(): folder for folder in _folders(root)}
    trains = [by_name[name] for name in TRAIN_NAMES if name in by_name and categories(by_name[name])]
    tests = [by_name[name] for name in TEST_NAMES if name in by_name and categories(by_name[name])]
    if trains and tests:
        unused = tuple(f"{other}: not used: {tests[0]} is what is tested with" for other in tests[1:])
        return Layout(trains[0], tests[0], (*unused, *_remarks(trains[0]), *_remarks(tests[0])))
    if len(categories(root)) >= 2:
        return Layout(root, None, _remarks(root))
    return None


def _remarks(root: Path) -> tuple[str, ...]:
    remarks = []
    for folder in _folders(root):
        if folder.name in LEFT_OUT:
            remarks.append(f"{folder}: {LEFT_OUT[folder.name]}")
        elif not next(images(folder), None):
            remarks.append(f"{folder}: no image directly in it")
    loose = sum(1 for _ in images(root))
    return (*remarks, f"{root}: {loose} images beside the category folders") if loose else tuple(remarks)


def _not_a_folder(path: Path) -> str:
    if not path.exists():
        return f"{path} is no folder: there is nothing of this name"
    if path.suffix.lower() in ARCHIVES:
        return f"{path} is an archive: unpack it ({_unpacking(path)}) and give the folder that comes out of it"
    return f"{path} is no folder but a file: give the folder that holds one folder of images per category"


def _why_not(data_dir: Path) -> str:
    """What most likely went wrong, most telling first."""
    entries = [path for path in data_dir.iterdir() if not path.name.startswith(".")]
    if not entries:
        return f"{data_dir} is empty: no categories found"
    works = [str(child) for child in _descendants(data_dir) if _would_work(child)]
    if works:
        return f"{data_dir} is only a folder around the data; this would work: --data-dir {' or '.join(works[:SHOWN])}"
    loose = sum(1 for _ in images(data_dir))
    there = list(categories(data_dir))
    if there and loose == 0:
        return f"only one category ({there[0]}) in {data_dir}: there must be at least two folders of images"
    if loose:
        return (
            f"{data_dir} has {loose} images at its top level, which are in no category: put each into a folder named "
            "after its category, at least two of them"
        )
    archives = sorted(path for path in entries if path.suffix.lower() in ARCHIVES and path.is_file())
    if archives:
        return f"{data_dir} holds {archives[0].name}, not unpacked: run {_unpacking(archives[0])} and try again"
    return (
        f"no categories found in {data_dir}: expected one folder of images ({', '.join(SUFFIXES)}) per category, or "
        f"`train` and `val` with such folders, or CIFAR's files; {_seen(entries)}"
    )


def _would_work(folder: Path) -> bool:
    return _found(folder) is not None or any(edition.place(folder) == folder for edition in EDITIONS)


def _descendants(data_dir: Path) -> list[Path]:
    """Its subfolders and theirs, no more than are quickly looked at."""
    children = _folders(data_dir)[:MAX_CHILDREN]
    grandchildren = [folder for child in children for folder in _folders(child)[: MAX_CHILDREN // len(children)]]
    return [*children, *grandchildren]


def _seen(entries: list[Path]) -> str:
    folders = sorted(path.name for path in entries if path.is_dir())
    inside = Counter(file.suffix.lower() or "no suffix" for path in entries if path.is_dir() for file in path.iterdir())
    kinds = ", ".join(suffix for suffix, _ in inside.most_common(SHOWN)) or "nothing"
    if not folders:
        return f"it has no folders, only files such as {sorted(path.name for path in entries)[0]}"
    return f"its folders ({', '.join(folders[:SHOWN])}) hold files of type {kinds}"


def _unpacking(archive: Path) -> str:
    """Shell words: the path is shown as it must be typed."""
    return f"unzip '{archive}'" if archive.suffix.lower() == ".zip" else f"tar -xf '{archive}'"


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
