"""A control group of its own for the trainer, where that is allowed.

Allowed means a subtree that was handed to us (systemd's `Delegate=`, a container, root). Only version 2: version 1 can
be handed to nobody but root. Without it the trainer is held by what needs no permission: see trainer_process.py.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from agent.adapters.cgroup import hierarchies

MIB = 1024 * 1024
PERIOD_US = 100_000
LEAF = "daemon"
"""A group with limits for its children may hold no process itself, so the daemon moves into a leaf of this name. A unit
with `DelegateSubgroup=daemon` has put it there already."""


class GroupRefused(OSError):
    """There can be no group for the trainer; the text says why."""


class TrainerGroup:
    """One group, made before the process that goes into it, and removed after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._killed_before = self._killed()  # an older group may be used again

    def take(self, pid: int) -> None:
        """Raises OSError."""
        _write(self.folder / "cgroup.procs", str(pid))

    def out_of_memory_kills(self) -> int:
        """How many of its processes the kernel has killed because the group (or the machine) had no memory left."""
        return self._killed() - self._killed_before

    def _killed(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            for line in (self.folder / "memory.events").read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        return 0

    def remove(self) -> None:
        """With whatever process is left in it. Where that fails an empty group stays, which the next one of this
        daemon is made of."""
        with contextlib.suppress(OSError):
            _write(self.folder / "cgroup.kill", "1")  # since Linux 5.14
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def make_trainer_group(memory_mib: int = 0, cpu_percent: float = 0.0, proc: Path = Path("/proc")) -> TrainerGroup:
    """A group for one trainer: at most `memory_mib` of memory and no swap, at most `cpu_percent` of the machine's
    processors; 0 is no limit. May move this process into the leaf LEAF of its own group. Raises GroupRefused."""
    try:
        base = _base(proc)
        _delegate(base)
        folder = base / f"trainer-{os.getpid()}"
        folder.mkdir(exist_ok=True)
    except (OSError, ValueError) as error:
        raise GroupRefused(f"no control group for the trainer: {error}") from error
    group = TrainerGroup(folder)
    try:
        _write(folder / "memory.max", str(memory_mib * MIB) if memory_mib else "max")
        if memory_mib:
            # Where there is no swap, or its accounting is off, the file is missing.
            _write_if_there(folder / "memory.swap.max", "0")
        quota_us = round(cpu_percent / 100 * (os.cpu_count() or 1) * PERIOD_US)
        _write_if_there(folder / "cpu.max", f"{max(1000, quota_us)} {PERIOD_US}" if cpu_percent else f"max {PERIOD_US}")
        _write_if_there(folder / "memory.oom.group", "1")  # half a trainer is of no use
    except OSError as error:
        group.remove()
        raise GroupRefused(f"no control group for the trainer: {error}") from error
    return group


def why_no_trainer_group(proc: Path = Path("/proc")) -> str:
    """Why this process could not have one; '' if it could. Looks only, changes nothing."""
    try:
        base = _base(proc)
        for path in (base, base / "cgroup.procs", base / "cgroup.subtree_control"):
            if not os.access(path, os.W_OK):
                return f"{path} may not be written (systemd: Delegate=cpu memory)"
        _only_us(base)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _base(proc: Path) -> Path:
    """The group that the trainer's is made in. Raises OSError with the reason where there is none."""
    two = [each for each in hierarchies(proc) if each.version == 2]
    if not two:
        raise OSError("control groups of version 2 are not mounted")
    folder = two[0].folder
    base = folder.parent if folder.name == LEAF and folder != two[0].top else folder
    if "memory" not in (base / "cgroup.controllers").read_text().split():
        raise OSError(f"{base} has no memory controller")
    return base


def _delegate(base: Path) -> None:
    """Let children of `base` have limits."""
    enabled = (base / "cgroup.subtree_control").read_text().split()
    if "memory" not in enabled:
        ours = _only_us(base)
        if ours:
            (base / LEAF).mkdir(exist_ok=True)
            for pid in ours:
                _write(base / LEAF / "cgroup.procs", pid)
        _write(base / "cgroup.subtree_control", "+memory")
    if "cpu" not in enabled:
        with contextlib.suppress(OSError):
            _write(base / "cgroup.subtree_control", "+cpu")


def _only_us(base: Path) -> list[str]:
    """The processes in `base` itself, which are to be ours alone: the daemon's. Raises OSError where they are not, as
    in a shell's group: nobody asked to be moved."""
    inside = (base / "cgroup.procs").read_text().split()
    if any(pid != str(os.getpid()) for pid in inside):
        raise OSError(f"{base} is shared with other processes")
    return inside


def _write(path: Path, text: str) -> None:
    # Not write_text: it would make the file where the kernel has none.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _write_if_there(path: Path, text: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        _write(path, text)
