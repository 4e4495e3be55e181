from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cloud_teacher.datasets import DatasetError
from cloud_teacher.download import fetch

FOLDER, NAMES = "official-files", ("train", "test", "meta")


def get(url: str, md5: str, root: Path, most_bytes: int = 1000) -> None:
    fetch(url, md5, root / "cache" / FOLDER, NAMES, most_bytes=most_bytes)


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
        for name in names:
            data = name.encode() * 100
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return hashlib.md5((root / "c.tar.gz").read_bytes()).hexdigest()


def test_fetch_downloads_checks_and_unpacks_with_progress(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    told: list[tuple[int, int]] = []
    cache = tmp_path / "cache"

    def report(stage: str, done: int, total: int, detail: str = "") -> None:
        told.append((done, total))

    fetch(url, archive(root), cache / FOLDER, NAMES, most_bytes=1000, report=report)
    assert told[-1][0] == told[-1][1] == (root / "c.tar.gz").stat().st_size
    assert {path.name: path.read_bytes() for path in (cache / FOLDER).iterdir()} == {n: n.encode() * 100 for n in NAMES}
    assert [path.name for path in cache.iterdir()] == [FOLDER]


def test_a_wrong_checksum_leaves_nothing_behind(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    archive(root)
    with pytest.raises(DatasetError, match=r"came with md5 .* not 0000"):
        get(url, "0000", tmp_path)
    assert not list((tmp_path / "cache").iterdir())


def test_what_cannot_be_downloaded_is_said(site: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot download .*404"):
        get(site[0], "x", tmp_path)


def test_an_archive_without_a_batch_is_refused(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    with pytest.raises(DatasetError, match="lacks train"):
        get(url, archive(root, NAMES[1:]), tmp_path)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/understudy-escaped", f"{FOLDER}/../../escaped"])
def test_nothing_is_written_outside(site: tuple[str, Path], tmp_path: Path, name: str) -> None:
    url, root = site
    get(url, archive(root, extra=tarfile.TarInfo(name)), tmp_path)
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*")) == sorted([FOLDER, *NAMES])
    assert not (tmp_path / "escaped").exists()


def test_links_in_the_archive_are_not_followed(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    link = tarfile.TarInfo(f"{FOLDER}/{NAMES[0]}")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    with pytest.raises(DatasetError, match="lacks train"):
        get(url, archive(root, NAMES[1:], link), tmp_path)


def test_a_file_far_too_large_is_not_unpacked(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    with pytest.raises(DatasetError, match="has 500 bytes, far too many"):
        get(url, archive(root), tmp_path, most_bytes=450)


def test_what_is_no_archive_is_said(site: tuple[str, Path], tmp_path: Path) -> None:
    url, root = site
    (root / "c.tar.gz").write_bytes(b"a page that says: moved")
    md5 = hashlib.md5(b"a page that says: moved").hexdigest()
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        get(url, md5, tmp_path)
