"""What an installation does, as a list to be looked at before anything is done, and how each step is carried out."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transfer.durable import write_atomic

RUN_TIMEOUT_S = 240.0  # the first start verifies and copies the bundle; the unit gives it 180 s


class InstallError(RuntimeError):
    """It cannot be installed so; the text says what to do. Nothing was changed, or what was is named."""


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path


@dataclass(frozen=True, slots=True)
class Write:
    """`kept`: one that is there already is somebody's own, and never replaced."""

    path: Path
    content: str
    mode: int = 0o644
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Remove:
    """A file, or a folder with all that is in it."""

    path: Path


@dataclass(frozen=True, slots=True)
class Run:
    """`optional`: its failure is said, and the next step follows; `advice`: what to do then."""

    argv: tuple[str, ...]
    optional: bool = False
    advice: str = ""
    timeout_s: float = RUN_TIMEOUT_S


Step = Folder | Write | Remove | Run


def refuse_to_overwrite(steps: Sequence[Step]) -> None:
    """Raises InstallError naming every file that is there and would become another one."""
    different = [str(step.path) for step in steps if isinstance(step, Write) and not step.kept and _differs(step)]
    if different:
        files = "\n  ".join(different)
        raise InstallError(f"there is something else already in\n  {files}\nwith --force it is kept as .bak")


def describe(step: Step) -> str:
    """The step as it would be done now."""
    if isinstance(step, Folder):
        return f"keep {step.path}" if step.path.is_dir() else f"make {step.path}"
    if isinstance(step, Write):
        if step.kept and _there(step.path):
            return f"keep {step.path}: it is yours"
        if _there(step.path) and not _differs(step):
            return f"keep {step.path}: it is the same"
        return f"write {step.path}" + (f", the old one to {_backup(step.path)}" if _there(step.path) else "")
    if isinstance(step, Remove):
        return f"remove {step.path}" if _there(step.path) else f"nothing to remove at {step.path}"
    return "run " + " ".join(step.argv)


def carry_out(step: Step) -> str:
    """Do it. Returns what went wrong with an optional step, else "". Raises InstallError."""
    try:
        if isinstance(step, Folder):
            step.path.mkdir(parents=True, exist_ok=True)
        elif isinstance(step, Write):
            _write(step)
        elif isinstance(step, Remove):
            _remove(step.path)
        else:
            return _run(step)
    except OSError as error:
        raise InstallError(f"{error.filename or step}: {error.strerror}") from None
    return ""


def _write(step: Write) -> None:
    if _there(step.path):
        if step.kept or not _differs(step):
            return
        step.path.replace(_backup(step.path))
    step.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(step.path, step.content.encode(), mode=step.mode)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _run(step: Run) -> str:
    command = " ".join(step.argv)
    try:
        ran = subprocess.run(
            step.argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=step.timeout_s, check=False
        )
        said = (ran.stderr or ran.stdout).strip()[-500:]
        failure = "" if ran.returncode == 0 else f"`{command}` failed ({ran.returncode}): {said}"
    except subprocess.TimeoutExpired:
        failure = f"`{command}` did not end within {step.timeout_s:g} s"
    except OSError as error:
        failure = f"`{command}`: {error.strerror}"
    if failure and step.advice:
        failure += f"\n  {step.advice}"
    if failure and not step.optional:
        raise InstallError(failure)
    return failure


def _there(path: Path) -> bool:
    return os.path.lexists(path)


def _differs(step: Write) -> bool:
    if not _there(step.path):
        return False
    try:
        return step.path.is_symlink() or step.path.read_bytes() != step.content.encode()
    except OSError:
        return True  # a folder, or not ours to read


def _backup(path: Path) -> Path:
    """The first name that is free: an older backup is nobody's to overwrite either."""
    names = [f"{path.name}.bak", *(f"{path.name}.bak{number}" for number in range(2, 1000))]
    return next(path.with_name(name) for name in names if not _there(path.with_name(name)))
