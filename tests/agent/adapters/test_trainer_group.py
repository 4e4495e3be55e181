"""The trainer's control group: in a tree of files as the kernel's are, and in the kernel's where it is allowed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.cgroup import MIB, hierarchies
from agent.adapters.trainer_group import (
    LEAF,
    GroupRefused,
    TrainerGroup,
    make_trainer_group,
    why_no_trainer_group,
)

HERE = str(os.getpid())


class Tree:
    """A version 2 hierarchy with this process in `agent.service`. A real kernel fills folders with files when they are
    made; `knobs` are put into the trainer's beforehand."""

    def __init__(self, folder: Path, path: str = "/agent.service", controllers: str = "cpu memory pids") -> None:
        self.proc, top = folder / "proc", folder / "cgroup"
        self.group = top / path.lstrip("/")
        self.base = self.group.parent if self.group.name == LEAF else self.group
        (self.proc / "self").mkdir(parents=True)
        (self.group / LEAF).mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text(f"0::{path}\n")
        (self.proc / "self" / "mountinfo").write_text(f"30 22 0:26 / {top} rw - cgroup2 cgroup2 rw\n")
        for name, text in {
            "cgroup.controllers": controllers,
            "cgroup.subtree_control": "",
            "cgroup.procs": HERE if self.base == self.group else "",
            f"{LEAF}/cgroup.procs": "",
        }.items():
            (self.base / name).write_text(text)

    def knobs(self, *names: str) -> Path:
        trainer = self.base / f"trainer-{HERE}"
        trainer.mkdir()
        for name in names:
            (trainer / name).write_text("")
        return trainer


ALL = ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "cgroup.procs")


@pytest.mark.spec("11.2")
def test_the_daemon_moves_into_a_leaf_and_the_trainers_limits_are_set(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    trainer = tree.knobs(*ALL)
    assert why_no_trainer_group(tree.proc) == ""
    group = make_trainer_group(512, 50.0, tree.proc)
    group.take(4711)
    assert (tree.base / LEAF / "cgroup.procs").read_text() == HERE
    # The kernel takes each that is written; a file keeps the last one, over the first.
    assert (tree.base / "cgroup.subtree_control").read_text() == "+cpuory"
    found = {name: (trainer / name).read_text() for name in ALL}
    assert found == {
        "memory.max": str(512 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": f"{round(0.5 * (os.cpu_count() or 1) * 100_000)} 100000",
        "cgroup.procs": "4711",
    }


@pytest.mark.spec("11.2")
def test_without_limits_it_has_a_group_all_the_same(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    trainer = tree.knobs(*ALL)
    make_trainer_group(0, 0.0, tree.proc)
    assert (trainer / "memory.max").read_text() == "max" and (trainer / "memory.swap.max").read_text() == ""
    assert (trainer / "cpu.max").read_text() == "max 100000"


@pytest.mark.spec("11.2")
def test_systemds_own_leaf_is_used_where_there_is_one(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "/agent.service/daemon")
    trainer = tree.knobs(*ALL)
    assert make_trainer_group(100, 0.0, tree.proc).folder == trainer == tree.group.parent / f"trainer-{HERE}"
    assert (tree.group / "cgroup.procs").read_text() == ""  # nobody has to move


@pytest.mark.parametrize("missing", ["memory.swap.max", "cpu.max", "memory.oom.group"])
def test_a_kernel_that_lacks_a_knob_does_without(tmp_path: Path, missing: str) -> None:
    tree = Tree(tmp_path)
    trainer = tree.knobs(*(name for name in ALL if name != missing))
    make_trainer_group(100, 10.0, tree.proc)
    assert (trainer / "memory.max").read_text() == str(100 * MIB) and not (trainer / missing).exists()


@pytest.mark.spec("11.2")
def test_a_group_that_others_live_in_is_left_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    (tree.base / "cgroup.procs").write_text(f"{HERE}\n1\n")
    assert "shared with other processes" in why_no_trainer_group(tree.proc)
    with pytest.raises(GroupRefused, match="shared with other processes"):
        make_trainer_group(100, 0.0, tree.proc)
    assert (tree.base / LEAF / "cgroup.procs").read_text() == ""


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    no_memory = Tree(tmp_path / "a", controllers="cpu pids")
    assert why_no_trainer_group(no_memory.proc) == f"{no_memory.base} has no memory controller"
    with pytest.raises(GroupRefused, match="has no memory controller"):
        make_trainer_group(1, 0.0, no_memory.proc)
    old = Tree(tmp_path / "b")
    (old.proc / "self" / "mountinfo").write_text("30 22 0:26 / /x rw - cgroup cgroup rw,memory\n")
    assert why_no_trainer_group(old.proc) == "control groups of version 2 are not mounted"
    assert why_no_trainer_group(tmp_path / "none") != ""


def test_a_limit_that_is_refused_leaves_no_group(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    with pytest.raises(GroupRefused, match="memory"):
        make_trainer_group(100, 0.0, tree.proc)  # a folder of files has no knobs of its own
    assert not (tree.base / f"trainer-{HERE}").exists()


@pytest.mark.spec("11.3")
@pytest.mark.parametrize(
    ("events", "kills"),
    [("low 0\nhigh 3\nmax 9\noom 2\noom_kill 1\noom_group_kill 1\n", 1), ("oom_kill 0\n", 0), ("oom_kill x\n", 0)],
)
def test_kills_for_want_of_memory_are_counted(tmp_path: Path, events: str, kills: int) -> None:
    group = TrainerGroup(tmp_path)
    (tmp_path / "memory.events").write_text(events)
    assert group.out_of_memory_kills() == kills
    assert TrainerGroup(tmp_path).out_of_memory_kills() == 0  # made of one that was left over
    assert TrainerGroup(tmp_path / "none").out_of_memory_kills() == 0


# ------------------------------------------------------------------------------------------------ the kernel's own


@pytest.fixture
def real_group() -> Iterator[TrainerGroup]:
    """A group of the mounted version 2 hierarchy, apart from the one we are in, which is not ours to change."""
    tops = [each.top for each in hierarchies(Path("/proc")) if each.version == 2]
    if not tops or not os.access(tops[0], os.W_OK) or os.geteuid() != 0:
        pytest.skip("needs root and a writable /sys/fs/cgroup of version 2: run as root, not in a container")
    folder = tops[0] / f"understudy-test-{HERE}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"needs a writable /sys/fs/cgroup of version 2: {error}")
    yield TrainerGroup(folder)
    TrainerGroup(folder).remove()
    assert not folder.exists()


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=-1)


@pytest.mark.spec("11.2")
def test_a_real_process_goes_in_and_out_goes_the_group_with_all_that_is_left(real_group: TrainerGroup) -> None:
    first, second = sleeper(), sleeper()
    for child in (first, second):
        assert child.stdout is not None and child.stdout.readline()
        real_group.take(child.pid)
    inside = (real_group.folder / "cgroup.procs").read_text().split()
    assert sorted(inside) == sorted([str(first.pid), str(second.pid)])
    first.kill()
    first.wait()
    if not (real_group.folder / "cgroup.kill").exists():
        second.kill()  # before Linux 5.14
        second.wait()
    real_group.remove()
    assert second.wait(10) == -9
    deadline = time.monotonic() + 10
    while real_group.folder.exists() and time.monotonic() < deadline:
        real_group.remove()
        time.sleep(0.02)
    assert not real_group.folder.exists()


@pytest.mark.spec("11.2", "11.3")
def test_the_kernel_ends_what_exceeds_its_group(real_group: TrainerGroup) -> None:
    folder = real_group.folder
    if not (folder / "memory.max").exists():
        pytest.skip("this kernel's memory controller is not in version 2 (or not enabled): boot with cgroup v2 only")
    (folder / "memory.max").write_text(str(64 * MIB))
    script = "input(); data = bytearray(256 << 20); print(len(data))"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    real_group.take(child.pid)
    child.communicate(b"\n", timeout=30)
    assert child.returncode == -9 and real_group.out_of_memory_kills() == 1
