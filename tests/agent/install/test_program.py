"""The command of a service is that of the installation that installs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.install.program import SHIPPED, Program, compilation, termux_template, this_program, unit_template
from agent.install.steps import InstallError
from agent.install.systemd import UNIT


def test_an_installed_command_is_used_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "understudy"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert this_program(str(tmp_path / "python3")) == Program((str(script),))


def test_a_checkout_is_run_by_its_python_with_its_path(tmp_path: Path, root: Path) -> None:
    found = this_program(str(tmp_path / "python3"), root)
    assert found == Program((str(tmp_path / "python3"), "-m", "understudy"), str(root))


def test_what_the_daemon_loads_is_compiled_without_docstrings(tmp_path: Path, root: Path) -> None:
    subprocess.run(
        compilation(Program((), str(root))),
        check=True,
        # Not beside the packages, which others are using.
        env=os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    found = {path.name.partition(".")[0] for path in tmp_path.rglob("*.opt-2.pyc")}
    assert {"daemon", "fromnumeric", "interpreter", "client", "dataclasses"} <= found


def test_the_unit_is_found_in_a_checkout_and_where_pip_puts_it(tmp_path: Path, root: Path) -> None:
    assert "ExecStart=" in unit_template(UNIT, root)
    shipped = tmp_path / SHIPPED / "systemd"
    shipped.mkdir(parents=True)
    (shipped / UNIT).write_text("shipped")
    assert unit_template(UNIT, tmp_path / "site-packages", str(tmp_path)) == "shipped"
    with pytest.raises(InstallError, match="install the package again"):
        unit_template(UNIT, tmp_path, sys.executable)


@pytest.mark.parametrize("name", ["run", "finish", "log-run", "boot"])
def test_the_scripts_for_termux_are_there(name: str) -> None:
    assert termux_template(name).startswith("#!/data/data/com.termux/files/usr/bin/sh\n")
