"""A small Debian with a systemd of its own, booted in a container, in which the units are really started.

Root only. The base is made once (debootstrap, two minutes, a network) and kept in $UNDERSTUDY_TEST_CACHE, by default
~/.cache/understudy-tests; whatever a boot writes lies in memory and is gone with it. Its Python is Debian's, the
packages are this interpreter's: both must be of one version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASE, RELEASE_PYTHON = "bookworm", (3, 11)
PACKAGES = "systemd,systemd-sysv,dbus,python3,procps,mosquitto"
MIRROR = "http://deb.debian.org/debian"
TOOLS = ("debootstrap", "systemd-nspawn", "nsenter")
PROGRAM = """#!/bin/sh
PYTHONPATH=/opt/checkout:/opt/packages exec python3 -m understudy "$@"
"""
BOOT_S = 120.0


def why_not() -> str:
    """Why no machine can be booted here; '' if one can."""
    if os.environ.get("UNDERSTUDY_NSPAWN") != "1":
        return "boots a systemd in a container (a minute): set UNDERSTUDY_NSPAWN=1, as root, see docs/service.md"
    if os.geteuid() != 0:
        return "needs root: sudo UNDERSTUDY_NSPAWN=1 python -m pytest tests/systemd"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"apt-get install debootstrap systemd-container util-linux ({', '.join(missing)} missing)"
    if sys.version_info[:2] != RELEASE_PYTHON:
        return f"Debian {RELEASE} has Python {'.'.join(map(str, RELEASE_PYTHON))}; run the tests with that version"
    return ""


def base() -> Path:
    """The cached base; made if there is none. Raises subprocess.CalledProcessError."""
    cache = Path(os.environ.get("UNDERSTUDY_TEST_CACHE") or "~/.cache/understudy-tests").expanduser()
    made = cache / f"{RELEASE}-systemd"
    if not made.is_dir():
        unfinished = made.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", RELEASE, str(unfinished), MIRROR]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        unfinished.rename(made)
    return made


class Machine:
    """A booted one. `scene` on this side is /srv/scene in there, read-only."""

    def __init__(self, scene: Path, log: Path) -> None:
        bound = {ROOT: "/opt/checkout", Path(sysconfig.get_path("purelib")): "/opt/packages", scene: "/srv/scene"}
        self._nspawn = subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "--directory", str(base()), "--volatile=overlay", "--boot"),
                *("--private-network", "--register=no", "--keep-unit", "--console=pipe"),
                *(f"--bind-ro={path}:{inside}" for path, inside in bound.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            # One hierarchy of control groups in there, whatever this system has.
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
        self._log = log
        self.first_pid = 0
        self.until(self._booted, BOOT_S, "the machine did not boot")
        self.path("/etc/hosts").write_text("127.0.0.1 localhost\n")
        program = self.path("/opt/understudy/bin/understudy")
        program.parent.mkdir(parents=True)
        program.write_text(PROGRAM)
        program.chmod(0o755)

    def _booted(self) -> bool:
        """The daemons of the base itself run."""
        if self._nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended:\n{self._log.read_text(errors='replace')[-2000:]}")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        if not children:
            return False
        self.first_pid = int(children[0])
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def path(self, inside: str) -> Path:
        """A file of the machine, seen from here."""
        return Path(f"/proc/{self.first_pid}/root{inside}")

    def run(self, *command: str, check: bool = True, of: int | None = None) -> subprocess.CompletedProcess[str]:
        """As root in the machine, or among the mounts of its process `of` (a pid as seen in there)."""
        inner = ("nsenter", f"--mount=/proc/{of}/ns/mnt", *command) if of else command
        done = subprocess.run(
            ["nsenter", f"--target={self.first_pid}", "--all", *inner],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.tail()}")
        return done

    def until(self, holds: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        until_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > until_s:
                raise AssertionError(f"{otherwise}\n{self.tail()}")
            time.sleep(0.2)

    def tail(self) -> str:
        return self.run("journalctl", "--no-pager", "--lines=40", check=False).stdout if self.first_pid else ""

    def close(self) -> None:
        """nspawn makes an orderly end of SIGTERM."""
        self._nspawn.terminate()
        try:
            self._nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()


class Unit:
    """One of our units in a machine."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name
        self.own = Path(f"/etc/systemd/system/{name}.service")
        machine.path(str(self.own)).write_text((ROOT / "systemd" / self.own.name).read_text())
        machine.run("systemctl", "daemon-reload")

    def change(self, *lines: str) -> None:
        """As `systemctl edit` would, so that tests need not wait as long as an operator would."""
        folder = self.machine.path(f"{self.own}.d")
        folder.mkdir(exist_ok=True)
        (folder / "test.conf").write_text("\n".join(("[Service]", *lines, "")))
        self.machine.run("systemctl", "daemon-reload")

    def start(self) -> None:
        """Returns when it has said READY."""
        self.machine.run("systemctl", "start", self.name)

    def stop(self) -> None:
        self.machine.run("systemctl", "stop", self.name)

    def shows(self, key: str) -> str:
        return self.machine.run("systemctl", "show", "--value", f"--property={key}", self.name).stdout.strip()

    @property
    def main_pid(self) -> int:
        return int(self.shows("MainPID"))

    def journal(self, *options: str) -> Sequence[str]:
        """What it has written itself; with `options` what systemd says of it, too."""
        chosen = options or (f"_SYSTEMD_UNIT={self.name}.service", "_TRANSPORT=stdout")
        return self.machine.run("journalctl", "--no-pager", "--output=cat", *chosen).stdout.splitlines()
