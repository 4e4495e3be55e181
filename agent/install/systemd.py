"""The plan for systemd: the unit of this installation, and its start."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from agent.install.program import Program, compilation
from agent.install.steps import Remove, Run, Step, Write

UNIT = "understudy-agent.service"
HOMES = ("/home", "/root", "/run/user")
# A user's own manager cannot make users, mounts or device rules: of the hardening these lines remain.
OF_A_USER = {
    *("Description", "StartLimitIntervalSec", "Type", "NotifyAccess", "ExecStart", "Environment", "TimeoutStartSec"),
    *("WatchdogSec", "Restart", "RestartSec", "RestartPreventExitStatus", "KillMode", "TimeoutStopSec", "OOMPolicy"),
    *("TasksMax", "MemoryMax", "CPUQuota", "Delegate", "LimitCORE", "UMask", "NoNewPrivileges", "WantedBy"),
}


def unit_text(template: str, program: Program, config: Path, *, user: bool) -> str:
    """The shipped unit with this installation's command, and for a user's manager without what that cannot do."""
    words = [*program.words, "agent", "run", "--config", str(config)]
    command = f"ExecStart={' '.join(map(_quoted, words))}"
    if program.pythonpath:
        path = _quoted(f"PYTHONPATH={program.pythonpath}")
        command = f"{command}\n# Run from a checkout: the packages are not installed.\nEnvironment={path}"
    text = re.sub(r"^ExecStart=.*$", lambda _: command, template, count=1, flags=re.MULTILINE)
    return _for_user(text) if user else text


def plan(unit: str, program: Program, *, user: bool, home: Path, root: Path, start: bool, replaced: bool) -> list[Step]:
    """Write `unit` and have it started at every boot; `start`: now, too. Below another `root` nothing is started.

    `replaced`: one runs already, and has to become the new one.
    """
    manager = ("systemctl", "--user") if user else ("systemctl",)
    steps: list[Step] = [Write(unit_path(user=user, home=home, root=root), unit)]
    if root != Path("/"):
        where = ("--global",) if user else ()
        return [*steps, Run(("systemctl", *where, f"--root={root}", "enable", UNIT))]
    steps.append(Run(compilation(program), optional=True, advice="every start will compile, for some seconds"))
    steps.append(Run((*manager, "daemon-reload")))
    advice = f"see: journalctl {'--user ' if user else ''}-u {UNIT.removesuffix('.service')} -n 20"
    steps.append(Run((*manager, "enable", *(("--now",) if start else ()), UNIT), advice=advice))
    if start and replaced:
        steps.append(Run((*manager, "restart", UNIT), advice=advice))
    if user:
        linger = "without it the daemon runs only while you are logged in: sudo loginctl enable-linger"
        steps.append(Run(("loginctl", "enable-linger"), optional=True, advice=linger, timeout_s=20))
    return steps


def removal(*, user: bool, home: Path, root: Path) -> list[Step]:
    manager = ("systemctl", "--user") if user else ("systemctl",)
    unit = unit_path(user=user, home=home, root=root)
    if root != Path("/"):
        where = ("--global",) if user else ()
        return [Run(("systemctl", *where, f"--root={root}", "disable", UNIT), optional=True), Remove(unit)]
    return [Run((*manager, "disable", "--now", UNIT), optional=True), Remove(unit), Run((*manager, "daemon-reload"))]


def unit_path(*, user: bool, home: Path, root: Path) -> Path:
    if not user:
        return root / "etc/systemd/system" / UNIT
    # Below another root there is no home yet: a unit for all its users.
    return (home / ".config/systemd/user" if root == Path("/") else root / "etc/systemd/user") / UNIT


def hidden(path: Path) -> bool:
    """Whether the unit's ProtectHome hides it from the daemon."""
    return any(path.is_relative_to(home) for home in HOMES)


def out_of_reach(path: Path) -> str:
    """Why the daemon could not read `path`; "" where it could, or where there is nothing yet."""
    if hidden(path):
        return f"{path} lies in a home folder, into which the service may not look (ProtectHome): move it, to /srv say"
    try:
        for folder in path.parents:
            if not folder.stat().st_mode & stat.S_IXOTH:
                return f"the service's user cannot enter {folder}: chmod o+x {folder}"
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        if path.stat().st_mode & wanted != wanted:
            return f"the service's user cannot read {path}: chmod o+r{'x' if path.is_dir() else ''} {path}"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


def _for_user(text: str) -> str:
    """Each setting is one line with the comments above it."""
    kept: list[str] = []
    comments: list[str] = []
    for line in text.splitlines():
        key = line.partition("=")[0]
        if line.startswith("#"):
            comments.append(line)
        elif line.startswith("[") or not line:
            kept += [line]
            comments = []
        else:
            if key in OF_A_USER:
                kept += [*comments, line]
            comments = []
    joined = "\n".join(kept).replace("WantedBy=multi-user.target", "WantedBy=default.target")
    return re.sub(r"\n{3,}", "\n\n", joined).rstrip() + "\n"


def _quoted(word: str) -> str:
    """A word of ExecStart (systemd.service(5)): % and $ are doubled, spaces and quotes are quoted."""
    word = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[\w%$=+,./:@-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
