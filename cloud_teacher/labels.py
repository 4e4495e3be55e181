"""The names of a network's categories, from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transfer.spec import MAX_CLASSES

MAX_FILE_BYTES = 2**20
MAX_CHARACTERS = 64
"""What a message may carry (`transfer.wire.Label`)."""


class LabelsError(ValueError):
    """Names that cannot be used; the message says which and why."""


def read_labels(path: Path) -> tuple[str, ...]:
    """One name a line, in the order of the network's logits; empty lines do not count. Raises LabelsError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise LabelsError(f"{path} is larger than {MAX_FILE_BYTES} bytes: no list of names")
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(f"{path} cannot be read as a list of names, one a line: {error}") from error
    return checked_labels([line.strip() for line in lines if line.strip()], str(path))


def checked_labels(labels: Sequence[str], origin: str) -> tuple[str, ...]:
    """Raises LabelsError. `origin`: where they come from, for its message."""
    if not 1 <= len(labels) <= MAX_CLASSES:
        raise LabelsError(f"{origin}: {len(labels)} names; there must be 1 to {MAX_CLASSES}")
    seen: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if not label.isprintable() or not 1 <= len(label) <= MAX_CHARACTERS:
            raise LabelsError(f"{origin}: name {number}, {label[:80]!r}, must be 1 to {MAX_CHARACTERS} characters")
        if label in seen:
            raise LabelsError(f"{origin}: names {seen[label]} and {number} are both {label!r}: make them different")
        seen[label] = number
    return tuple(labels)
