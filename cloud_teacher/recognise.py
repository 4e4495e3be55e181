"""Which data set a person means by a name and a folder."""

from __future__ import annotations

from pathlib import Path

from cloud_teacher import cifar
from cloud_teacher.datasets import Dataset, DatasetError, default_cache, digits
from cloud_teacher.photographs import folder
from cloud_teacher.progress import Report, silent

NAMES = ("auto", "digits", "cifar10", "cifar100", "folder")


def recognise(
    name: str,
    data_dir: Path | None = None,
    *,
    cache_dir: Path | None = None,
    size: int = 64,
    seed: int = 0,
    report: Report = silent,
) -> Dataset:
    """The data set `name`; "auto" goes by what is in `data_dir` (digits where there is none). Raises DatasetError."""
    cache = cache_dir or default_cache()
    if name == "auto":
        name = "digits" if data_dir is None else _by_files(data_dir)
    if name == "digits":
        return digits(seed)
    for edition in cifar.EDITIONS:
        if name == edition.name:
            return cifar.load(edition, data_dir, cache, report=report)
    if name == "folder":
        if data_dir is None:
            raise DatasetError("the data 'folder' needs --data-dir: a folder with one folder of images per category")
        return folder(data_dir, cache, size=size, report=report)
    raise DatasetError(f"unknown data {name!r}: use {', '.join(NAMES[1:])} or auto")


def _by_files(data_dir: Path) -> str:
    there = [edition for edition in cifar.EDITIONS if edition.place(data_dir) is not None]
    if len(there) > 1:
        choice = " or ".join(f"--data-dir {edition.place(data_dir)}" for edition in there)
        raise DatasetError(f"{data_dir} holds several data sets: give {choice}")
    return there[0].name if there else "folder"
