"""Control groups as several systems show them: where we are, and how much memory is left to us."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.cgroup import MIB, headroom_mib, hierarchies

V1_NONE = "9223372036854771712"


class System:
    """A /proc and mounted hierarchies below a folder."""

    def __init__(self, folder: Path, groups: str, *mounts: str) -> None:
        self.proc, self.folder = folder / "proc", folder
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text(groups)
        lines = "".join(f"{line}\n" for line in mounts).replace("@", str(folder))
        (self.proc / "self" / "mountinfo").write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{lines}")

    def group(self, path: str, **files: str | int) -> Path:
        folder = self.folder / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_text(f"{content}\n")
        return folder


V2_MOUNT = "30 22 0:26 / @/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"


def v2(folder: Path, path: str = "/system.slice/agent.service") -> System:
    return System(folder, f"0::{path}\n", V2_MOUNT)


@pytest.mark.spec("11.1")
def test_the_tightest_ancestor_counts(tmp_path: Path) -> None:
    system = v2(tmp_path)
    system.group("cgroup/system.slice/agent.service", memory__max=900 * MIB, memory__current=100 * MIB)
    assert headroom_mib(system.proc) == 800.0
    system.group("cgroup/system.slice", memory__max=1000 * MIB, memory__current=700 * MIB)
    assert headroom_mib(system.proc) == 300.0
    system.group("cgroup/system.slice", memory__max="max")
    assert headroom_mib(system.proc) == 800.0


@pytest.mark.spec("11.1")
def test_idle_pages_of_files_are_free_and_what_is_overdrawn_is_nothing(tmp_path: Path) -> None:
    system = v2(tmp_path)
    group = system.group("cgroup/system.slice/agent.service", memory__max=500 * MIB, memory__current=450 * MIB)
    (group / "memory.stat").write_text(f"anon {100 * MIB}\ninactive_file {200 * MIB}\nactive_file 5\n")
    assert headroom_mib(system.proc) == 250.0
    system.group("cgroup/system.slice/agent.service", memory__current=900 * MIB)
    assert headroom_mib(system.proc) == 0.0


@pytest.mark.spec("11.1")
@pytest.mark.parametrize(
    "files",
    [
        {},
        {"memory__max": "max", "memory__current": 5},
        {"memory__max": 500},
        {"memory__max": "", "memory__current": 5},
        {"memory__max": "many", "memory__current": 5},
    ],
)
def test_without_a_limit_that_can_be_read_there_is_no_figure(tmp_path: Path, files: dict[str, str | int]) -> None:
    system = v2(tmp_path)
    system.group("cgroup/system.slice/agent.service", **files)
    assert headroom_mib(system.proc) is None


@pytest.mark.spec("11.1")
def test_version_1_beside_an_empty_version_2_as_on_older_systems(tmp_path: Path) -> None:
    system = System(
        tmp_path,
        "9:name=systemd:/\n4:memory:/box/agent\n2:cpu,cpuacct:/box\n0::/\n",
        "31 22 0:28 / @/memory rw - cgroup cgroup rw,memory",
        "32 22 0:29 / @/cpu rw - cgroup cgroup rw,cpu,cpuacct",
        "33 22 0:30 / @/unified rw - cgroup2 cgroup2 rw",
    )
    limits = {"memory__limit_in_bytes": 400 * MIB, "memory__usage_in_bytes": 150 * MIB}
    group = system.group("memory/box/agent", **limits)
    (group / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {50 * MIB}\n")
    system.group("memory/box", memory__limit_in_bytes=V1_NONE, memory__usage_in_bytes=150 * MIB)
    system.group("unified")
    assert headroom_mib(system.proc) == 300.0


@pytest.mark.spec("11.1")
@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/docker/abc", "30 22 0:26 /docker/abc @/cgroup rw - cgroup2 cgroup2 rw"),  # bind-mounted into a container
        ("/", "30 22 0:26 / @/cgroup rw - cgroup2 cgroup2 rw"),  # a namespace of its own
        ("/../../elsewhere", "30 22 0:26 / @/cgroup rw - cgroup2 cgroup2 rw"),  # outside of what can be seen
    ],
)
def test_a_container_sees_its_own_part(tmp_path: Path, path: str, mount: str) -> None:
    system = System(tmp_path, f"0::{path}\n", mount)
    system.group("cgroup", memory__max=100 * MIB, memory__current=40 * MIB)
    assert headroom_mib(system.proc) == 60.0
    assert [each.folder for each in hierarchies(system.proc)] == [tmp_path / "cgroup"]


def test_a_mount_point_with_a_blank(tmp_path: Path) -> None:
    system = System(tmp_path, "0::/\n", "30 22 0:26 / @/c\\040g rw - cgroup2 cgroup2 rw")
    system.group("c g", memory__max=100 * MIB, memory__current=40 * MIB)
    assert headroom_mib(system.proc) == 60.0


def test_without_control_groups_there_is_no_figure(tmp_path: Path) -> None:
    assert headroom_mib(tmp_path) is None
    assert headroom_mib(System(tmp_path, "").proc) is None


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=80), st.binary(max_size=120))
def test_no_bytes_stop_it(groups: bytes, mounts: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        system = System(Path(name), "")
        (system.proc / "self" / "cgroup").write_bytes(groups)
        (system.proc / "self" / "mountinfo").write_bytes(mounts)
        assert headroom_mib(system.proc) is None


def test_of_this_machine_it_says_something_sensible() -> None:
    left = headroom_mib()
    assert left is None or 0 <= left < 1e8
