from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.archive import ArchiveError, read, write

MEMBERS = {"b.bin": bytes(range(256)) * 5, "a.txt": b"", "c": b"x"}


def test_what_goes_in_comes_out_and_order_does_not_matter() -> None:
    data = write(MEMBERS)
    assert read(data, max_members=3) == MEMBERS
    assert data == write(dict(reversed(MEMBERS.items())))


def tar(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "data",
    [
        tar(member("link", tarfile.SYMTYPE, "/etc/passwd")),
        tar(member("link", tarfile.LNKTYPE, "a.txt")),
        tar(member("device", tarfile.CHRTYPE)),
        tar(member("pipe", tarfile.FIFOTYPE)),
        tar(member("folder", tarfile.DIRTYPE)),
        tar(member("/etc/passwd")),
        tar(member("../up")),
        tar(member("sub/file")),
        tar(member("..")),
        tar(member("twice"), member("twice")),
        tar(*(member(str(number)) for number in range(9))),
        tar(member("cut", size=2000), content=b"y" * 2000)[:1500],
        b"",
        b"not a tar at all" * 100,
        b"\x1f\x8b" + bytes(600),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError):
        read(data, max_members=8)


def test_a_claimed_size_beyond_the_archive_costs_no_memory() -> None:
    data = tar(member("huge", size=0))
    header = tarfile.TarInfo("huge")
    header.size = 2**40
    with pytest.raises(ArchiveError):
        read(header.tobuf(tarfile.GNU_FORMAT) + data[512:], max_members=8)


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_damage_is_an_archive_error_or_plain_files(data: st.DataObject) -> None:
    damaged = bytearray(write(MEMBERS))
    for at in data.draw(st.lists(st.integers(0, 2048), max_size=6)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        members = read(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]), max_members=8)
    except ArchiveError:
        return
    assert all("/" not in name and name not in ("", ".", "..") for name in members)
    assert sum(map(len, members.values())) <= len(damaged)
