"""An official archive of a data set: downloaded once, checked, and of its files only those we read unpacked."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from cloud_teacher.datasets import DatasetError
from cloud_teacher.progress import Report, silent
from transfer.durable import sync_tree

MAX_DOWNLOAD_BYTES = 512 * 2**20
TIMEOUT_S = 60


def fetch(url: str, md5: str, folder: Path, names: Sequence[str], *, most_bytes: int, report: Report = silent) -> None:
    """Make `folder` with the files `names` of the archive's folder of the same name, each of at most `most_bytes`.

    The folder appears whole or not at all. Raises DatasetError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        archive = Path(temporary) / "archive.tar.gz"
        got = _download(url, archive, report)
        if got != md5:
            raise DatasetError(f"{url} came with md5 {got}, not {md5}: cut off or changed on the way; try again")
        unpacked = Path(temporary) / folder.name
        unpacked.mkdir()
        _unpack(archive, unpacked, names, most_bytes)
        sync_tree(unpacked)
        unpacked.rename(folder)


def _download(url: str, path: Path, report: Report) -> str:
    """Returns the md5 (the published checksum is one; it guards against accidents, TLS against the rest)."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    stage = f"download {url.rsplit('/', 1)[-1]}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as source, path.open("wb") as target:
            total = int(source.headers.get("Content-Length") or 0)
            while block := source.read(1 << 18):
                done += len(block)
                if done > MAX_DOWNLOAD_BYTES:
                    raise DatasetError(f"{url} is larger than {MAX_DOWNLOAD_BYTES} bytes: not the archive we know")
                digest.update(block)
                target.write(block)
                report(stage, done, max(total, done + 1), f"{done >> 20} MiB")
    except (OSError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"cannot download {url}: {error}; fetch it by hand and give --data-dir") from error
    report(stage, done, done, f"{done >> 20} MiB")
    return digest.hexdigest()


def _unpack(archive: Path, target: Path, names: Sequence[str], most_bytes: int) -> None:
    """Copies out the files we read, by their names, as plain files; nothing else in the archive is looked at."""
    wanted = {f"{target.name}/{name}": name for name in names}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = wanted.get(member.name)
                source = tar.extractfile(member) if name and member.isreg() else None
                if name is None or source is None:
                    continue
                if member.size > most_bytes:
                    raise DatasetError(f"{archive}: {member.name} has {member.size} bytes, far too many")
                (target / name).write_bytes(source.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DatasetError(f"the archive of {target.name} cannot be unpacked: {error}") from error
    missing = [name for name in names if not (target / name).exists()]
    if missing:
        raise DatasetError(f"the archive of {target.name} lacks {', '.join(missing)}")
