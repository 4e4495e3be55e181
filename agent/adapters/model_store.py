"""The generations of the model on disk: immutable directories, and one pointer that says which of them serves.

    models/generations/000001/  a bundle, never changed after its rename into place
    models/pointer.json         {"active": 2, "previous": 1}: the only truth, replaced atomically
    models/pointer.bak          the last good copy of it
    models/pointer.before       the pointer as it was before the last promotion: what going back restores, byte for byte
    models/last_number          numbers are never used twice, not even those of discarded generations

Being cut off between any two steps leaves the old pointer or the new one, and generations that are whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from transfer import bundle
from transfer.bundle import Bundle, BundleError
from transfer.durable import sync_directory, write_atomic

if TYPE_CHECKING:
    from nacl.signing import SigningKey

MAX_POINTER_BYTES = 4096


class ModelStoreError(ValueError):
    """What was asked cannot be done with the generations there are; the text says why."""


class Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    active: int | None = None
    previous: int | None = None


class ModelStore:
    """One thread at a time. Call `repair` first, once, at every start. Every step raises OSError where the disk
    refuses it, with the store as it was."""

    def __init__(self, state_dir: Path) -> None:
        self._models = state_dir / "models"
        self._generations = self._models / "generations"
        self._generations.mkdir(parents=True, exist_ok=True)

    def path(self, number: int) -> Path:
        return self._generations / f"{number:06d}"

    def load(self, number: int) -> Bundle:
        """The bundle of a generation, every byte verified: the files by the manifest, the manifest by its signature.
        Whose that is was asked when it was taken in. Raises BundleError."""
        return bundle.load(self.path(number), trusted=[bundle.signer(self.path(number))])

    def numbers(self) -> list[int]:
        """All generations on disk, oldest first."""
        return sorted(int(entry.name) for entry in self._generations.iterdir() if entry.name.isdigit())

    def active(self) -> tuple[int, Path] | None:
        number = self._pointer().active
        return None if number is None else (number, self.path(number))

    def previous(self) -> tuple[int, Path] | None:
        number = self._pointer().previous
        return None if number is None else (number, self.path(number))

    def import_bundle(self, source_dir: Path, trusted: Collection[str]) -> int:
        """Take in a copy of a student bundle signed by one of `trusted`; returns its number. Raises BundleError."""
        source = bundle.load(source_dir, trusted=trusted)
        _require_student(source)
        number = self._next_number()
        bundle.copy(source, self.path(number))
        return number

    def adopt(self, candidate_dir: Path, key: SigningKey) -> int:
        """Take in the trainer's unsigned candidate, signed with the device's key; returns its number. Raises
        BundleError."""
        candidate = bundle.load(candidate_dir, trusted=None)
        _require_student(candidate)
        files = {name: candidate.read(name) for name in candidate.manifest.files}
        number = self._next_number()
        bundle.save(self.path(number), candidate.manifest, files, key)
        return number

    def promote(self, number: int) -> None:
        """Make `number` the active generation and the active one the previous; nothing to do where it is active.
        Raises BundleError where it does not verify."""
        pointer = self._pointer()
        if number == pointer.active:
            return
        self.load(number)
        write_atomic(self._models / "pointer.before", msgspec.json.encode(pointer))
        self._write_pointer(Pointer(active=number, previous=pointer.active))

    def roll_back(self, to: int | None = None) -> int:
        """Make the pointer what it was before the last promotion; returns the active number.

        What is gone back from is offered no more: going back twice must not bring back what failed. `to` says which
        generation is meant, so that a repetition after a crash finds its work done instead of undoing more.
        Raises ModelStoreError (nothing to go back to) and BundleError (it does not verify).
        """
        pointer = self._pointer()
        if to is not None and to == pointer.active:
            return to
        target = pointer.previous if to is None else to
        if target is None:
            raise ModelStoreError("there is no previous generation to roll back to")
        self.load(target)
        before = _read_pointer(self._models / "pointer.before")
        self._write_pointer(before if before is not None and before.active == target else Pointer(active=target))
        return target

    def discard(self, number: int) -> None:
        """Remove a generation that is neither active nor previous; nothing to do where there is none."""
        pointer = self._pointer()
        if number in (pointer.active, pointer.previous):
            raise ModelStoreError(f"generation {number} is the active or the previous one")
        if not self.path(number).exists():
            return
        # Renamed first: a directory half removed must not be taken for a generation.
        doomed = self._generations / f".{number:06d}.discarded.tmp"
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(self.path(number), doomed)
        sync_directory(self._generations)
        shutil.rmtree(doomed)

    def collect_garbage(self, keep: int = 3, candidates: Collection[int] = ()) -> list[int]:
        """Keep the newest `keep` generations, the active, the previous, what would be the previous after going back,
        and the `candidates`; returns what went."""
        pointer, before = self._pointer(), _read_pointer(self._models / "pointer.before") or Pointer()
        numbers = self.numbers()
        kept = {pointer.active, pointer.previous, *candidates, *numbers[max(0, len(numbers) - keep) :]}
        if before.active == pointer.previous:
            kept.add(before.previous)
        removed = [number for number in numbers if number not in kept]
        for number in removed:
            self.discard(number)
        return removed

    def repair(self) -> list[str]:
        """Make the store whole after whatever happened; returns what was wrong, a sentence each.

        Leftovers of half made or half removed generations go. A pointer that is missing or cannot be read is taken
        from its last good copy. An active generation that does not verify gives way to the previous one, and that
        to the newest that verifies; with none, there is no active generation.
        """
        notes = self._remove_leftovers()
        pointer, damage = self._trusted_pointer()
        notes += damage
        active, previous = self._verified(pointer.active, notes), self._verified(pointer.previous, notes)
        if active is None and previous is not None:
            notes.append(f"went back to generation {previous}")
            active, previous = previous, None
        if active is None and (pointer != Pointer() or damage):
            others = (n for n in reversed(self.numbers()) if n not in (pointer.active, pointer.previous))
            active = next((n for n in others if self._verified(n, notes) is not None), None)
            notes.append("no generation verifies" if active is None else f"took the newest that verifies, {active}")
        if damage or pointer != Pointer(active, previous):
            self._write_pointer(Pointer(active, previous))
        return notes

    def _trusted_pointer(self) -> tuple[Pointer, list[str]]:
        path, backup = self._models / "pointer.json", self._models / "pointer.bak"
        pointer, last_good = _read_pointer(path), _read_pointer(backup)
        if pointer is not None:
            return pointer, []
        before = _read_pointer(self._models / "pointer.before")
        if not path.exists() and not backup.exists() and (before is None or before.active is None):
            return Pointer(), []  # nothing was ever promoted, though something may have been taken in
        what = "cannot be read" if path.exists() else "is missing"
        if last_good is not None:
            return last_good, [f"{path} {what}; its last good copy was used"]
        return Pointer(), [f"{path} {what}, and its copy does not help"]

    def _verified(self, number: int | None, notes: list[str]) -> int | None:
        if number is None:
            return None
        try:
            self.load(number)
        except BundleError as error:
            notes.append(f"generation {number} does not verify ({error.code}): {error}")
            return None
        return number

    def _remove_leftovers(self) -> list[str]:
        notes = []
        for entry in self._generations.iterdir():
            if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                shutil.rmtree(entry, ignore_errors=True)
                notes.append(f"removed {entry.name}, left over from an interruption")
        return notes

    def _pointer(self) -> Pointer:
        path = self._models / "pointer.json"
        pointer = _read_pointer(path)
        if pointer is None:
            if path.exists():
                raise ModelStoreError(f"{path} cannot be read; restarting repairs it")
            return Pointer()
        return pointer

    def _write_pointer(self, pointer: Pointer) -> None:
        encoded, path = msgspec.json.encode(pointer), self._models / "pointer.json"
        before = path.read_bytes() if path.exists() else None
        try:
            write_atomic(path, encoded)
        except OSError:
            # It may be flipped, and only not durable: what is told to have failed must not serve after a restart.
            with contextlib.suppress(OSError):
                if before is not None and path.read_bytes() != before:
                    write_atomic(path, before)
            raise
        with contextlib.suppress(OSError):  # the flip is done: an older copy is no reason to call it failed
            write_atomic(self._models / "pointer.bak", encoded)

    def _next_number(self) -> int:
        """Durable before it is used."""
        counter = self._models / "last_number"
        try:
            last = int(counter.read_bytes()[:20])
        except (OSError, ValueError):
            last = 0
        pointer = self._pointer()
        number = max(last, *self.numbers(), pointer.active or 0, pointer.previous or 0, 0) + 1
        write_atomic(counter, b"%d\n" % number)
        return number


def _read_pointer(path: Path) -> Pointer | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_POINTER_BYTES), type=Pointer)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _require_student(found: Bundle) -> None:
    if found.manifest.kind != "student":
        raise BundleError("malformed", f"{found.directory} is a {found.manifest.kind}; the device serves students only")
