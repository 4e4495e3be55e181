"""Termux's service: scripts that shells and shellcheck take, in the places where termux-services looks for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.install import termux
from agent.install.program import ROOT, Program
from agent.install.steps import Remove, Run, Write, carry_out

pytestmark = [pytest.mark.spec("17.3"), pytest.mark.spec("13.2")]

TEMPLATES = ROOT / "firmware_profiles" / "termux"
SCRIPTS = ("run", "finish", "log-run", "boot")
PREFIX, HOME = Path(termux.PREFIX), Path("/data/data/com.termux/files/home")


def installed(root: Path, program: Program = Program(("/bin/under study",)), *, start: bool = True) -> Path:  # noqa: B008
    """The whole plan below a root; returns the service's folder."""
    for step in termux.plan(program, HOME / "a b.yaml", prefix=PREFIX, home=HOME, root=root, start=start):
        assert isinstance(step, Write)
        carry_out(step)
    return termux.service_folder(PREFIX, root)


def test_everything_is_where_termux_looks_for_it(tmp_path: Path) -> None:
    service = installed(tmp_path)
    assert service == tmp_path / "data/data/com.termux/files/usr/var/service/understudy-agent"
    boot = tmp_path / "data/data/com.termux/files/home/.termux/boot/understudy"
    for script in (service / "run", service / "finish", service / "log/run", boot):
        assert os.access(script, os.X_OK) and script.read_text().startswith(termux.SHEBANG + "\n")
        assert "@" not in script.read_text().replace("$@", "")
    assert not (service / "down").exists()
    assert (installed(tmp_path / "later", start=False) / "down").exists(), "runit is not to start it yet"


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_are_clean(name: str, tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt install shellcheck")
    service = installed(tmp_path)
    made = {
        "run": service / "run",
        "finish": service / "finish",
        "log-run": service / "log/run",
        "boot": termux.boot_script(HOME, tmp_path),
    }[name]
    for script in (TEMPLATES / name, made):
        checked = subprocess.run(["shellcheck", "--shell=sh", script], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


def test_words_with_spaces_reach_the_program_whole(tmp_path: Path) -> None:
    program = tmp_path / "under study"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$PYTHONPATH"\n')
    program.chmod(0o755)
    service = installed(tmp_path / "root", Program((str(program),), "/a 'b"))
    ran = subprocess.run(["sh", service / "run"], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["agent", "run", "--config", f"{HOME}/a b.yaml", "/a 'b"]


def test_the_run_script_becomes_the_daemon(tmp_path: Path) -> None:
    """A shell in between would not pass on SIGTERM, and count as one more of the 32 processes that Android allows."""
    service = installed(tmp_path, Program((sys.executable, "-c", "import os; print(os.getpid())")))
    with subprocess.Popen(["sh", service / "run"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and int(process.stdout.readline()) == process.pid


def test_a_failure_is_waited_after_and_a_faulty_configuration_for_a_person(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sleep", "sv"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (tools / name).chmod(0o755)
    service = installed(tmp_path)

    def finish(status: str) -> str:
        environment = {"PATH": f"{tools}:/usr/bin:/bin"}
        ran = subprocess.run(
            ["sh", service / "finish", status, "0"],
            cwd=service,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout

    assert finish("1") == finish("-1") == "sleep 10\n"
    assert finish("0") == "", "sv restart would wait for it"
    assert finish("2").endswith(f"sv down {service}\n")


@pytest.fixture
def supervised(tmp_path: Path) -> Path:
    if shutil.which("runsv") is None or shutil.which("sv") is None:
        pytest.skip("runit is not installed: apt install runit")
    return tmp_path


def test_under_runit_it_comes_back_after_sigkill_but_not_with_a_faulty_configuration(
    supervised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script as it is, but for the first line: Termux's shell is not here."""
    monkeypatch.setenv("UNDERSTUDY_RESTART_S", "0")
    lives = supervised / "lives"
    code = (
        "import os, sys, time\n"
        f"with open({str(lives)!r}, 'a') as file: file.write(f'{{os.getpid()}}\\n')\n"
        f"sys.exit(2) if os.path.exists({str(supervised / 'faulty')!r}) else time.sleep(60)\n"
    )
    service = installed(supervised, Program((sys.executable, "-c", code)))
    for script in (service / "run", service / "finish"):
        script.write_text(script.read_text().replace(termux.SHEBANG, "#!/bin/sh"))
    shutil.rmtree(service / "log")
    runsv = subprocess.Popen(["runsv", service], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        first = await_lines(lives, 1)[0]
        os.kill(first, 9)
        second = await_lines(lives, 2)[1]
        assert second != first
        (supervised / "faulty").write_text("")
        os.kill(second, 9)
        await_lines(lives, 3)
        until_s = time.monotonic() + 10
        while not sv("status", service).startswith("down") and time.monotonic() < until_s:
            time.sleep(0.05)
        assert sv("status", service).startswith("down: ")
        assert len(await_lines(lives, 3)) == 3
    finally:
        runsv.terminate()
        runsv.wait()


def sv(command: str, service: Path) -> str:
    return subprocess.run(["sv", command, service], capture_output=True, text=True, check=False).stdout


def await_lines(path: Path, count: int) -> list[int]:
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        numbers = [int(line) for line in path.read_text().splitlines()] if path.exists() else []
        if len(numbers) >= count:
            return numbers
        time.sleep(0.05)
    pytest.fail(f"{path.name} has not {count} lines")


# ------------------------------------------------------------------------------------------------ on the phone itself


def test_androids_own_scheduler_brings_it_back_where_all_of_termux_was_killed() -> None:
    steps = termux.plan(Program(("u",)), HOME / "c", prefix=PREFIX, home=HOME, root=Path("/"), start=True)
    commands = [step for step in steps if isinstance(step, Run)]
    boot = str(termux.boot_script(HOME, Path("/")))
    assert commands[0].argv == (boot,)
    assert commands[1].argv[:5] == ("termux-job-scheduler", "--job-id", termux.JOB_ID, "--script", boot)
    assert "--persisted" in commands[1].argv
    # The app may be missing; then these commands fail or hang.
    assert all(step.optional and step.timeout_s <= 15 for step in commands)


def test_a_service_that_waits_for_its_configuration_is_marked_down_first() -> None:
    steps = termux.plan(Program(("u",)), HOME / "c", prefix=PREFIX, home=HOME, root=Path("/"), start=False)
    service = termux.service_folder(PREFIX, Path("/"))
    writes = [step.path for step in steps if isinstance(step, Write)]
    assert writes[0] == service / "down"
    assert writes.index(service / "run") > max(writes.index(service / "finish"), writes.index(service / "log/run"))


def test_removal_leaves_nothing_of_ours(tmp_path: Path) -> None:
    service = installed(tmp_path)
    for step in termux.removal(prefix=PREFIX, home=HOME, root=tmp_path):
        assert isinstance(step, Remove)
        carry_out(step)
    assert not service.exists() and not termux.boot_script(HOME, tmp_path).exists()


def test_what_termux_lacks_is_named() -> None:
    assert termux.missing(path="/nowhere") == ["runsvdir", "sv", "svlogd"]
