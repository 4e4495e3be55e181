"""How a service has to call this very installation, and where the files lie that it ships with."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from agent.install.steps import InstallError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = "share/understudy"


@dataclass(frozen=True, slots=True)
class Program:
    """`words` begin every command; `pythonpath` is empty where the packages are installed."""

    words: tuple[str, ...]
    pythonpath: str = ""


def this_program(executable: str = sys.executable, root: Path = ROOT) -> Program:
    """The `understudy` beside this Python (not resolved: a virtual environment's Python is a link), else a checkout."""
    script = Path(executable).parent / "understudy"
    if os.access(script, os.X_OK):
        return Program((str(script),))
    return Program((executable, "-m", "understudy"), str(root))


def compilation(program: Program, executable: str = sys.executable) -> tuple[str, ...]:
    """The command that compiles what the daemon loads as the unit has it loaded, without docstrings: pip does not, and
    the service may not write beside the packages."""
    ours = ("env", "PYTHONDONTWRITEBYTECODE=", f"PYTHONPATH={program.pythonpath}")
    return (*ours, executable, "-OO", "-c", "import agent.daemon")


def unit_template(name: str, root: Path = ROOT, prefix: str = sys.prefix) -> str:
    """The text of a file of `systemd/`: in a checkout beside the packages, else where pip puts it."""
    for folder in (root / "systemd", Path(prefix) / SHIPPED / "systemd"):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8")
    raise InstallError(f"{name} is missing from this installation; install the package again")


def termux_template(name: str, root: Path = ROOT) -> str:
    return (root / "firmware_profiles" / "termux" / name).read_text(encoding="utf-8")
