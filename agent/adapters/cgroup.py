"""Control groups: where this process is, and how much memory they let it take yet."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
UNLIMITED_BYTES = 2**60  # version 1 says "no limit" by a number near 2**63


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """`folder`: the group that this process is in; `top`: where the hierarchy is mounted; `version` 1 or 2."""

    folder: Path
    top: Path
    version: int

    def with_ancestors(self) -> list[Path]:
        """As far as they can be seen from here: a container sees its own part only."""
        found = [self.folder]
        while found[-1] != self.top and self.top in found[-1].parents:
            found.append(found[-1].parent)
        return found


def headroom_mib(proc: Path = Path("/proc")) -> float | None:
    """What this process's groups let it take yet, None where they set no limit. Pages of files that are not in use
    count as free: the kernel drops them before it kills anybody."""
    try:
        found = hierarchies(proc)
    except (OSError, ValueError):
        return None
    left = [_left_bytes(group, each.version) for each in found for group in each.with_ancestors()]
    known = [count for count in left if count is not None]
    return max(0, min(known)) / MIB if known else None


def hierarchies(proc: Path) -> list[Hierarchy]:
    """Those that limit memory: version 2, and version 1's, as far as they are mounted."""
    groups = {}  # "" is version 2; else the controllers of version 1
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups[controllers] = path
    found = []
    for line in (proc / "self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, mount_point = (_unescaped(field) for field in before.split()[3:5])
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" and "" in groups:
            found.append(_hierarchy(mount_point, root, groups[""], 2))
        elif kind == "cgroup" and "memory" in options.split(" ")[-1].split(","):
            path = next((path for names, path in groups.items() if "memory" in names.split(",")), "/")
            found.append(_hierarchy(mount_point, root, path, 1))
    return found


def _hierarchy(mount_point: str, root: str, path: str, version: int) -> Hierarchy:
    """Of a container's mount only a part may be seen: its `root` is what the path is to be read from."""
    top = Path(mount_point)
    inside = os.path.relpath(path, root) if path == root or path.startswith(root.rstrip("/") + "/") else path
    inside = "." if ".." in inside.split("/") else inside
    folder = top / inside.lstrip("/")
    return Hierarchy(folder if folder.is_dir() else top, top, version)


def _unescaped(field: str) -> str:
    return field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _left_bytes(group: Path, version: int) -> int | None:
    limit_name, used_name, idle_name = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    try:
        limit = (group / limit_name).read_text().strip()
        if limit == "max" or int(limit) >= UNLIMITED_BYTES:
            return None
        used = int((group / used_name).read_text())
    except (OSError, ValueError):  # the root group has no such files
        return None
    idle = 0
    with contextlib.suppress(OSError, ValueError):
        stat = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
        idle = int(stat.get(idle_name, "0"))
    return int(limit) - used + idle
