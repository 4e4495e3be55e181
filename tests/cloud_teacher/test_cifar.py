from __future__ import annotations

import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_teacher.cifar import FOLDER, TEST_FILES, TRAIN_FILES, cifar10, fetch, read_batch
from cloud_teacher.datasets import DatasetError

NAMES = (*TRAIN_FILES, *TEST_FILES)


def batch(seed: int, n: int = 4) -> dict[bytes, object]:
    data = np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)
    return {
        b"batch_label": b"x",
        b"labels": [index % 10 for index in range(n)],
        b"data": data,
        b"filenames": [b"f"] * n,
    }


def write_all(folder: Path) -> None:
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        (folder / name).write_bytes(pickle.dumps(batch(seed), protocol=3))


@pytest.mark.parametrize("inside", [True, False])
def test_the_folder_or_its_parent_is_read(tmp_path: Path, inside: bool) -> None:
    write_all(tmp_path / FOLDER)
    data = cifar10(tmp_path / FOLDER if inside else tmp_path, tmp_path / "cache")
    assert data.train_images.shape == (20, 32, 32, 3) and data.test_images.shape == (4, 32, 32, 3)
    rows = np.asarray(batch(0)[b"data"]).reshape(4, 3, 32, 32)
    assert np.array_equal(data.train_images[2, :, :, 1], rows[2, 1])
    assert data.train_targets.tolist() == [0, 1, 2, 3] * 5


def test_a_folder_without_cifar10_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no CIFAR-10"):
        cifar10(tmp_path, tmp_path / "cache")


class Evil:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


def test_a_pickle_that_calls_something_is_refused_without_calling_it(tmp_path: Path) -> None:
    target, path = tmp_path / "made-by-the-pickle", tmp_path / "data_batch_1"
    for evil in (Evil(os.mkdir, str(target)), Evil(eval, f"__import__('os').mkdir({str(target)!r})")):
        path.write_bytes(pickle.dumps({b"data": evil, b"labels": []}, protocol=3))
        with pytest.raises(DatasetError, match=r"arrays only, but this file asks for"):
            read_batch(path)
        assert not target.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({b"data": np.zeros((4, 3072), np.float32)}, "not uint8"),
        ({b"data": np.zeros((4, 100), np.uint8)}, "not uint8"),
        ({b"data": b"bytes"}, "not uint8"),
        ({b"labels": [1, 2, 3]}, "one number from 0 to 9"),
        ({b"labels": [1, 2, 3, 10]}, "one number from 0 to 9"),
        ({b"labels": [1, 2, 3, "4"]}, "one number from 0 to 9"),
    ],
)
def test_a_batch_of_other_content_is_refused(tmp_path: Path, change: dict[bytes, object], says: str) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(batch(0) | change, protocol=3))
    with pytest.raises(DatasetError, match=says):
        read_batch(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_batch_is_an_error_of_ours_or_still_a_batch(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps(batch(0, 1), protocol=3))
    at = data.draw(st.sampled_from([*range(150), *range(len(whole) - 100, len(whole))]))
    whole[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "batch"
    path.write_bytes(whole[: data.draw(st.sampled_from([len(whole), at + 1]))])
    try:
        images, targets = read_batch(path)
    except DatasetError:
        return
    assert images.shape == (1, 32, 32, 3) and targets.shape == (1,)


# ---------------------------------------------------------------------------------------------------------- download


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real web server on the loopback interface, and the folder it serves."""
    root = tmp_path / "site"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/c.tar.gz", root
    server.shutdown()
    server.server_close()


def archive(root: Path, names: tuple[str, ...] = NAMES, extra: tarfile.TarInfo | None = None) -> str:
    """Writes the archive; returns its md5."""
    with tarfile.open(root / "c.tar.gz", "w:gz") as tar:
        if extra is not None:
            tar.addfile(extra)
        for seed, name in enumerate(names):
            data = pickle.dumps(batch(seed), protocol=3)
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return hashlib.md5((root / "c.tar.gz").read_bytes()).hexdigest()


def test_fetch_downloads_checks_and_unpacks_with_progress(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    told: list[tuple[int, int]] = []
    cache = tmp_path / "cache"
    fetch(cache, url=url, md5=archive(root), report=lambda stage, done, total, detail="": told.append((done, total)))
    assert told[-1][0] == told[-1][1] == (root / "c.tar.gz").stat().st_size
    assert cifar10(None, cache).train_images.shape == (20, 32, 32, 3)
    assert [path.name for path in cache.iterdir()] == [FOLDER]


def test_a_wrong_checksum_leaves_nothing_behind(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    archive(root)
    with pytest.raises(DatasetError, match=r"came with md5 .* not 0000"):
        fetch(tmp_path / "cache", url=url, md5="0000")
    assert not list((tmp_path / "cache").iterdir())


def test_what_cannot_be_downloaded_is_said(site: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot download .*404"):
        fetch(tmp_path / "cache", url=site[0], md5="x")


def test_an_archive_without_a_batch_is_refused(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    with pytest.raises(DatasetError, match="lacks data_batch_1"):
        fetch(tmp_path / "cache", url=url, md5=archive(root, NAMES[1:]))


@pytest.mark.parametrize("name", ["../escaped", "/tmp/understudy-escaped", f"{FOLDER}/../../escaped"])
def test_nothing_is_written_outside(site: tuple[str, Path], tmp_path: Path, name: str) -> None:
    url, root = site
    fetch(tmp_path / "cache", url=url, md5=archive(root, extra=tarfile.TarInfo(name)))
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*")) == sorted([FOLDER, *NAMES])
    assert not (tmp_path / "escaped").exists()


def test_links_in_the_archive_are_not_followed(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    link = tarfile.TarInfo(f"{FOLDER}/{NAMES[0]}")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    with pytest.raises(DatasetError, match="lacks data_batch_1"):
        fetch(tmp_path / "cache", url=url, md5=archive(root, NAMES[1:], link))
