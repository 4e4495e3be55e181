"""How often in a row the daemon was started with a model and did not stay up: one small write a start."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from transfer.durable import write_atomic

MAX_BYTES = 4096
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Unsettled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`starts` in a row with `generation` in the boot `boot`, none of which has settled. `instead_of`: the generation
    that it was taken for, None where there was no other."""

    generation: int
    starts: int
    boot: str = ""
    instead_of: int | None = None


class StartRecord:
    """The file is there only from a start until the daemon has settled or was stopped in good order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = boot_id()

    def last(self) -> Unsettled | None:
        """The starts before this one. None where the last one went well, and after a reboot: a power cut, or ten of
        them, is no fault of the model's."""
        try:
            with self._path.open("rb") as file:
                found = msgspec.json.decode(file.read(MAX_BYTES), type=Unsettled)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return found if found.boot == self._boot else None

    def begin(self, generation: int, starts: int, instead_of: int | None = None) -> None:
        """Durable, before the model is loaded. A disk that refuses it is no reason not to start."""
        record = Unsettled(generation, starts, self._boot, instead_of)
        with contextlib.suppress(OSError):
            write_atomic(self._path, msgspec.json.encode(record))

    def settle(self) -> None:
        """The daemon stays up with it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def boot_id() -> str:
    """Another one after each boot; "" where the system does not tell."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()[:64]
    except (OSError, UnicodeDecodeError):
        return ""
