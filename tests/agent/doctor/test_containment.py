"""Control groups as systems mount them, each written out as a tree of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.doctor.containment import examine_groups


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine whose version 2 is mounted, with this process in a group that is its own."""
    group = tmp_path / "cgroup/system.slice/understudy-agent.service"
    group.mkdir(parents=True)
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/system.slice/understudy-agent.service\n")
    (proc / "mountinfo").write_text(f"30 23 0:26 / {tmp_path}/cgroup rw,nosuid - cgroup2 cgroup2 rw\n")
    for folder in (tmp_path / "cgroup", group):
        (folder / "cgroup.controllers").write_text("cpu memory pids\n")
        (folder / "cgroup.subtree_control").write_text("")
        (folder / "cgroup.procs").write_text("")
    return tmp_path


def test_a_delegated_group_is_all_it_needs(machine: Path) -> None:
    finding = examine_groups(machine / "proc")
    assert finding["state"] == "works" and "of its own" in finding["detail"]


def test_a_shell_shares_its_group_and_a_service_would_not(machine: Path) -> None:
    (machine / "cgroup/system.slice/understudy-agent.service/cgroup.procs").write_text("1\n2\n")
    finding = examine_groups(machine / "proc")
    assert finding["state"] == "limited"
    assert "shared with other processes" in finding["detail"] and "install --systemd" in finding["advice"]


def test_a_raspberry_pi_without_the_memory_controller_is_told_how_to_get_it(machine: Path) -> None:
    for file in machine.rglob("cgroup.controllers"):
        file.write_text("cpu pids\n")
    finding = examine_groups(machine / "proc")
    assert finding["state"] == "limited" and "cgroup_enable=memory" in finding["advice"]


@pytest.mark.spec("13.1")
@pytest.mark.parametrize(("mountinfo", "words"), [("", "not mounted"), (None, "cannot be read")])
def test_where_there_are_none_it_says_what_holds_the_trainer(mountinfo: str | None, words: str, machine: Path) -> None:
    path = machine / "proc/self/mountinfo"
    path.unlink()
    if mountinfo is not None:
        path.write_text(mountinfo)
    finding = examine_groups(machine / "proc")
    assert finding["state"] == "limited" and words in finding["detail"] and "niceness" in finding["advice"]


def test_this_machine_is_read_whatever_it_has() -> None:
    assert examine_groups()["what"] == "cgroups"
