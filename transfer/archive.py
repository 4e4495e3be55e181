"""A plain tar of a few small files: the same files always give the same bytes, and reading one can write nothing."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping


class ArchiveError(ValueError):
    """Not a tar as `write` makes them."""


def write(members: Mapping[str, bytes]) -> bytes:
    """Names sorted; no times, owners or modes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(members.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def read(data: bytes, *, max_members: int) -> dict[str, bytes]:
    """The regular files in the tar, by name; anything else in it is an error.

    Never holds more than twice `data`: no member is larger than the archive. Raises ArchiveError.
    """
    members: dict[str, bytes] = {}
    remaining = len(data)
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                    raise ArchiveError(f"{member.name!r} is not a regular file")
                if "/" in member.name or member.name in ("", ".", "..") or member.name in members:
                    raise ArchiveError(f"{member.name!r} is not a plain, unique file name")
                remaining -= member.size
                content = tar.extractfile(member)
                if member.size < 0 or remaining < 0 or len(members) == max_members or content is None:
                    raise ArchiveError(f"more than {max_members} files, or larger than the archive that holds them")
                members[member.name] = content.read(member.size)
                if len(members[member.name]) != member.size:
                    raise ArchiveError(f"{member.name!r} is cut off")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, OSError) as error:
        raise error if isinstance(error, ArchiveError) else ArchiveError(f"not a readable tar: {error}") from error
    return members
