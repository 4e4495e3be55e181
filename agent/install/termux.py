"""The plan for Termux: a runit service, a script for Termux:Boot, and Android's job scheduler behind both."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from agent.install.program import Program, termux_template
from agent.install.steps import Remove, Run, Step, Write

SERVICE = "understudy-agent"
PREFIX = "/data/data/com.termux/files/usr"
SHEBANG = f"#!{PREFIX}/bin/sh"
JOB_ID = "738615"
PERIOD_MS = 15 * 60 * 1000  # Android allows no shorter one
ANDROID_TIMEOUT_S = 15.0  # commands of Termux:API hang where the app is missing

NEEDS = """Termux packages:
  pkg install termux-services termux-api          # runit; battery and job scheduler
  pkg install python-numpy python-pillow python-psutil python-tflite-runtime
  pkg install python-torch                        # for all tiers of learning; without it the head tier
apps, from where Termux itself is (F-Droid): Termux:Boot and Termux:API; open each once"""


def plan(program: Program, config: Path, *, prefix: Path, home: Path, root: Path, start: bool) -> list[Step]:
    """`prefix` and `home` are Termux's own. The service's `run` is written last: runit starts what has one."""
    service, boot = service_folder(prefix, root), boot_script(home, root)
    logs = prefix / "var/log/sv" / SERVICE
    values = {
        "PREFIX": shlex.quote(str(prefix)),
        "PYTHONPATH": shlex.quote(program.pythonpath),
        "PROGRAM": shlex.join(program.words),
        "CONFIG": shlex.quote(str(config)),
        "LOGS": shlex.quote(str(logs)),
    }

    def script(name: str) -> str:
        text = termux_template(name).replace(SHEBANG, f"#!{prefix}/bin/sh")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        return text

    steps: list[Step] = [] if start else [Write(service / "down", "", kept=True)]
    steps += [
        Write(service / "log/run", script("log-run"), 0o755),
        Write(service / "finish", script("finish"), 0o755),
        Write(service / "run", script("run"), 0o755),
        Write(boot, script("boot"), 0o755),
    ]
    if root != Path("/"):
        return steps
    # Termux leaves no way to ask whether the app is there but to try.
    app = "is the app Termux:API installed, and was it opened once? Without it the service is back at the next boot"
    scheduled = ("--script", str(boot), "--period-ms", str(PERIOD_MS), "--persisted", "true")
    anyway = ("--network", "none", "--battery-not-low", "false")
    job = ("termux-job-scheduler", "--job-id", JOB_ID, *scheduled, *anyway)
    services = "pkg install termux-services, then open a new session"
    return [
        *steps,
        Run((str(boot),), optional=True, advice=services, timeout_s=ANDROID_TIMEOUT_S),
        Run(job, optional=True, advice=app, timeout_s=ANDROID_TIMEOUT_S),
        *([_restart(service)] if start and (service / "supervise").is_dir() else []),
    ]


def removal(*, prefix: Path, home: Path, root: Path) -> list[Step]:
    service, boot = service_folder(prefix, root), boot_script(home, root)
    steps: list[Step] = []
    if root == Path("/"):
        cancel = ("termux-job-scheduler", "--cancel", "--job-id", JOB_ID)
        steps = [
            Run(cancel, optional=True, timeout_s=ANDROID_TIMEOUT_S),
            Run(("sv", "-w", "60", "force-shutdown", str(service)), optional=True),
        ]
    return [*steps, Remove(boot), Remove(service)]


def missing(path: str | None = None) -> list[str]:
    """What the service needs of Termux and cannot be found."""
    return [name for name in ("runsvdir", "sv", "svlogd") if shutil.which(name, path=path) is None]


def service_folder(prefix: Path, root: Path) -> Path:
    return _below(root, prefix / "var/service" / SERVICE)


def boot_script(home: Path, root: Path) -> Path:
    return _below(root, home / ".termux/boot/understudy")


def _restart(service: Path) -> Run:
    return Run(("sv", "-w", "60", "force-restart", str(service)), optional=True)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")
