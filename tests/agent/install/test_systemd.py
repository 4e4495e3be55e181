"""The unit that is written is the shipped one with another command, and one that systemd takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agent.install import systemd
from agent.install.program import Program, unit_template
from agent.install.steps import Remove, Run, Write

pytestmark = pytest.mark.spec("17.3")

TEMPLATE = unit_template(systemd.UNIT)
PYTHON = Program((sys.executable, "-m", "understudy"), "/srv/a checkout")


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_only_the_command_is_another_one() -> None:
    text = systemd.unit_text(TEMPLATE, Program(("/opt/u/bin/understudy",)), Path("/etc/u.yaml"), user=False)
    changed = set(lines(text)) ^ set(lines(TEMPLATE))
    assert {line for line in changed if line in text} == {
        "ExecStart=/opt/u/bin/understudy agent run --config /etc/u.yaml"
    }
    assert all(line.startswith("ExecStart=") for line in changed)


def test_a_checkout_is_named_to_its_python() -> None:
    text = systemd.unit_text(TEMPLATE, PYTHON, Path("/etc/u.yaml"), user=False)
    assert 'Environment="PYTHONPATH=/srv/a checkout"' in lines(text)


def test_words_are_quoted_as_systemd_reads_them() -> None:
    program = Program(('/opt/100% mine/$HOME/under"study',))
    text = systemd.unit_text(TEMPLATE, program, Path("/etc/u.yaml"), user=False)
    assert 'ExecStart="/opt/100%% mine/$$HOME/under\\"study" agent run' in text


def test_a_users_manager_gets_what_it_can_do() -> None:
    text = systemd.unit_text(TEMPLATE, PYTHON, Path("/etc/u.yaml"), user=True)
    keys = {line.partition("=")[0] for line in lines(text) if "=" in line}
    assert not keys & {"DynamicUser", "StateDirectory", "ProtectSystem", "SupplementaryGroups", "Wants"}
    assert {"Type", "WatchdogSec", "Restart", "KillMode", "UMask", "NoNewPrivileges", "ExecStart"} <= keys
    assert lines(text)[-1] == "WantedBy=default.target"


@pytest.mark.parametrize("user", [False, True])
def test_systemd_takes_it(user: bool, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt install systemd")
    path = tmp_path / systemd.UNIT
    path.write_text(systemd.unit_text(TEMPLATE, PYTHON, Path("/etc/understudy/agent.yaml"), user=user))
    scope = "--user" if user else "--system"
    verified = subprocess.run(
        ["systemd-analyze", scope, "verify", "--recursive-errors=yes", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )
    ours = [line for line in verified.stderr.splitlines() if systemd.UNIT.partition(".")[0] in line]
    assert verified.returncode == 0 and not ours, verified.stderr


def test_the_order_of_the_steps() -> None:
    steps = systemd.plan("", PYTHON, user=False, home=Path("/home/me"), root=Path("/"), start=True, replaced=False)
    assert [type(step) for step in steps] == [Write, Run, Run, Run]
    assert isinstance(steps[1], Run) and "-OO" in steps[1].argv and steps[1].optional
    assert steps[2:] == [
        Run(("systemctl", "daemon-reload")),
        Run(("systemctl", "enable", "--now", systemd.UNIT), advice=steps[3].advice),  # type: ignore[union-attr]
    ]
    waiting = systemd.plan("", PYTHON, user=False, home=Path("/home/me"), root=Path("/"), start=False, replaced=True)
    assert not any(isinstance(step, Run) and {"--now", "restart"} & set(step.argv) for step in waiting)
    again = systemd.plan("", PYTHON, user=False, home=Path("/home/me"), root=Path("/"), start=True, replaced=True)
    assert isinstance(again[-1], Run) and again[-1].argv == ("systemctl", "restart", systemd.UNIT)


def test_a_users_service_is_the_users_affair() -> None:
    steps = systemd.plan("", PYTHON, user=True, home=Path("/home/me"), root=Path("/"), start=True, replaced=False)
    assert isinstance(steps[0], Write) and steps[0].path == Path("/home/me/.config/systemd/user") / systemd.UNIT
    commands = [step.argv for step in steps if isinstance(step, Run)]
    assert all(argv[:2] in (("systemctl", "--user"), ("loginctl", "enable-linger")) for argv in commands[1:])
    undone = systemd.removal(user=True, home=Path("/home/me"), root=Path("/"))
    assert Remove(steps[0].path) in undone


def test_what_the_service_cannot_reach_is_said(tmp_path: Path) -> None:
    assert "ProtectHome" in systemd.out_of_reach(Path("/home/pi/images"))
    assert systemd.out_of_reach(Path("/etc/passwd")) == systemd.out_of_reach(Path("/nothing/here")) == ""
    assert "cannot enter" in systemd.out_of_reach(tmp_path / "file")  # pytest's folders are their user's own


def test_a_file_for_others_to_read_is_told_from_one_that_is_not() -> None:
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:  # made with mode 0600
        assert f"chmod o+r {file.name}" in systemd.out_of_reach(Path(file.name))
        Path(file.name).chmod(0o644)
        assert systemd.out_of_reach(Path(file.name)) == ""
