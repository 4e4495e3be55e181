"""CIFAR-10 from its official Python files. They are pickles: the unpickler used here can build nothing but arrays."""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from cloud_teacher.datasets import IMAGENET_MEAN, IMAGENET_STD, Dataset, DatasetError, Images, Targets
from cloud_teacher.progress import Report, silent
from transfer.durable import sync_tree
from transfer.spec import InputSpec

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILES = ("test_batch",)
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
INPUT = InputSpec(32, 32, IMAGENET_MEAN, IMAGENET_STD)
"""What the published CIFAR-10 weights expect."""
PIXELS = 3 * 32 * 32
MAX_BATCH_BYTES = 64 * 2**20
MAX_DOWNLOAD_BYTES = 512 * 2**20
TIMEOUT_S = 60


def is_cifar10(data_dir: Path) -> bool:
    return any((place / TEST_FILES[0]).is_file() for place in (data_dir, data_dir / FOLDER))


def cifar10(data_dir: Path | None, cache_dir: Path, *, report: Report = silent) -> Dataset:
    """CIFAR-10 from `data_dir` (the folder of the batches, or its parent), or fetched into `cache_dir` once."""
    if data_dir is None:
        if not is_cifar10(cache_dir):
            fetch(cache_dir, report=report)
        data_dir = cache_dir
    if not is_cifar10(data_dir):
        raise DatasetError(f"{data_dir} has no CIFAR-10: expected {TEST_FILES[0]} in it or in its folder {FOLDER}")
    place = data_dir if (data_dir / TEST_FILES[0]).is_file() else data_dir / FOLDER
    train_images, train_targets = _batches(place, TRAIN_FILES, report)
    test_images, test_targets = _batches(place, TEST_FILES, silent)
    return Dataset("cifar10", LABELS, train_images, train_targets, test_images, test_targets, INPUT, flip=True)


def fetch(cache_dir: Path, *, url: str = URL, md5: str = MD5, report: Report = silent) -> None:
    """Download, check and unpack the official archive into `cache_dir`/cifar-10-batches-py. Raises DatasetError."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".cifar-10.", dir=cache_dir) as temporary:
        archive = Path(temporary) / "archive.tar.gz"
        got = _download(url, archive, report)
        if got != md5:
            raise DatasetError(f"{url} came with md5 {got}, not {md5}: cut off or changed on the way; try again")
        unpacked = Path(temporary) / FOLDER
        unpacked.mkdir()
        _unpack(archive, unpacked)
        sync_tree(unpacked)
        unpacked.rename(cache_dir / FOLDER)


def _download(url: str, path: Path, report: Report) -> str:
    """Returns the md5 (the published checksum is one; it guards against accidents, TLS against the rest)."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as source, path.open("wb") as target:
            total = int(source.headers.get("Content-Length") or 0)
            while block := source.read(1 << 18):
                done += len(block)
                if done > MAX_DOWNLOAD_BYTES:
                    raise DatasetError(f"{url} is larger than {MAX_DOWNLOAD_BYTES} bytes: not the CIFAR-10 archive")
                digest.update(block)
                target.write(block)
                report("download CIFAR-10", done, max(total, done + 1), f"{done >> 20} MiB")
    except (OSError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"cannot download {url}: {error}; fetch it by hand and give --data-dir") from error
    report("download CIFAR-10", done, done, f"{done >> 20} MiB")
    return digest.hexdigest()


def _unpack(archive: Path, target: Path) -> None:
    """Copies out the six files we read, by their names, as plain files; nothing else in the archive is looked at."""
    wanted = {f"{FOLDER}/{name}": name for name in (*TRAIN_FILES, *TEST_FILES)}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = wanted.get(member.name)
                source = tar.extractfile(member) if name and member.isreg() else None
                if name is None or source is None:
                    continue
                if member.size > MAX_BATCH_BYTES:
                    raise DatasetError(f"{archive}: {member.name} has {member.size} bytes, far too many")
                (target / name).write_bytes(source.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DatasetError(f"the CIFAR-10 archive cannot be unpacked: {error}") from error
    missing = [name for name in wanted.values() if not (target / name).exists()]
    if missing:
        raise DatasetError(f"the CIFAR-10 archive lacks {', '.join(missing)}")


def _batches(place: Path, names: tuple[str, ...], report: Report) -> tuple[Images, Targets]:
    images, targets = [], []
    for number, name in enumerate(names, 1):
        batch_images, batch_targets = read_batch(place / name)
        images.append(batch_images)
        targets.append(batch_targets)
        report("read CIFAR-10", number, len(names))
    return np.concatenate(images), np.concatenate(targets)


def read_batch(path: Path) -> tuple[Images, Targets]:
    """Images [n, 32, 32, 3] and targets [n] of one official batch file. Raises DatasetError."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BATCH_BYTES:
                raise DatasetError(f"{path} is larger than {MAX_BATCH_BYTES} bytes: no CIFAR-10 batch")
            content = _ArraysOnly(file, encoding="bytes").load()
    except DatasetError:
        raise
    except Exception as error:  # a damaged pickle raises anything: EOFError, KeyError, struct.error, ...
        raise DatasetError(f"{path} cannot be read as a CIFAR-10 batch: {error!r}") from error
    data = content.get(b"data") if isinstance(content, dict) else None
    labels = content.get(b"labels") if isinstance(content, dict) else None
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        raise DatasetError(f"{path}: `data` is not uint8 [n, {PIXELS}]: no CIFAR-10 batch")
    if not isinstance(labels, list) or len(labels) != len(data) or not all(_is_target(label) for label in labels):
        raise DatasetError(f"{path}: `labels` are not one number from 0 to 9 for each of {len(data)} images")
    images = np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images, np.array(labels, np.int64)


def _is_target(value: object) -> bool:
    return type(value) is int and 0 <= value < len(LABELS)


class _ArraysOnly(pickle.Unpickler):
    """A pickle may name any callable to be called. This one finds three: all that an array of numbers needs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _reconstruct
        raise DatasetError(f"a CIFAR-10 batch must hold arrays only, but this file asks for {module}.{name}")


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray[Any, Any]:
    """What numpy's own function of this name does, for plain arrays: an empty one, which its state then fills."""
    if shape != (0,):
        raise DatasetError(f"a CIFAR-10 batch must hold plain arrays only, but one is made with shape {shape}")
    array: np.ndarray[Any, Any] = np.ndarray(shape, np.dtype(code.decode()))
    return array
