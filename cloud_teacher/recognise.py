"""Which data set a person means by a name and a folder."""

from __future__ import annotations

from pathlib import Path

from cloud_teacher.cifar import cifar10, is_cifar10
from cloud_teacher.datasets import Dataset, DatasetError, default_cache, digits
from cloud_teacher.photographs import folder
from cloud_teacher.progress import Report, silent


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
        name = "digits" if data_dir is None else "cifar10" if is_cifar10(data_dir) else "folder"
    if name == "digits":
        return digits(seed)
    if name == "cifar10":
        return cifar10(data_dir, cache, report=report)
    if name == "folder":
        if data_dir is None:
            raise DatasetError("the data 'folder' needs --data-dir: a folder with one folder of images per category")
        return folder(data_dir, cache, size=size, report=report)
    raise DatasetError(f"unknown data {name!r}: use digits, cifar10, folder or auto")
