"""Memory goes back to the system, and what is used again is as it was."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.memory import unchanged_code

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and glibc are Linux")

LIBRARY = "/usr/lib/libz.so.1.2.13"


def mapping(start: int, perms: str, path: str, *, anonymous: int = 0, swap: int = 0, pages: int = 4) -> str:
    """A mapping as /proc/PID/smaps shows it, `anonymous` and `swap` in KiB."""
    head = f"{start:012x}-{start + pages * 4096:012x} {perms} 00001000 fe:00 {4711 if path else 0}"
    lines = [f"{head}                {path}".rstrip(), f"Size:  {4 * pages} kB", "Rss:   8 kB"]
    return "\n".join([*lines, f"Anonymous: {anonymous} kB", f"Swap: {swap} kB", "VmFlags: rd ex mr mw me sd"])


def found(*mappings: str) -> list[tuple[int, int]]:
    return list(unchanged_code("\n".join(mappings).splitlines(keepends=True)))


@pytest.mark.parametrize("path", [LIBRARY, "/opt/my libs/libx.so", "/a/_core.cpython-311.so (deleted)"])
@pytest.mark.parametrize("perms", ["r-xp", "r--p"])
def test_unchanged_code_of_libraries_is_found(perms: str, path: str) -> None:
    assert found(mapping(0x7F00000000, perms, path)) == [(0x7F00000000, 4 * 4096)]


def test_the_interpreter_is_code_too() -> None:
    assert found(mapping(0x400000, "r-xp", str(Path(sys.executable).resolve()))) == [(0x400000, 4 * 4096)]


@pytest.mark.parametrize(
    "line",
    [
        mapping(4096, "rw-p", LIBRARY),
        mapping(4096, "---p", LIBRARY),
        mapping(4096, "r--p", LIBRARY, anonymous=4),  # adjusted by the loader: the file does not have it
        mapping(4096, "r-xp", LIBRARY, swap=4),
        mapping(4096, "r-xp", ""),
        mapping(4096, "r-xp", "[vdso]"),
        mapping(4096, "r--s", "/data/model.tflite"),  # unmapped when its interpreter goes
        mapping(4096, "r--s", "/srv/my.sources/model.tflite"),
        mapping(4096, "rw-p", "[heap]"),
    ],
)
def test_all_else_is_left_alone(line: str) -> None:
    assert found(mapping(1 << 30, "r-xp", LIBRARY), line, mapping(1 << 31, "r-xp", LIBRARY)) == [
        (1 << 30, 4 * 4096),
        (1 << 31, 4 * 4096),
    ]


_kind = st.tuples(
    st.sampled_from(["r-xp", "r--p", "rw-p", "---p"]),
    st.sampled_from([LIBRARY, "", "[stack]", "/data/model.tflite"]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(1, 9),
)


@settings(deadline=None)
@given(st.lists(_kind, max_size=12))
def test_each_mapping_is_judged_by_its_own_lines(kinds: list[tuple[str, str, int, int, int]]) -> None:
    lines, expected = [], []
    for number, (perms, path, anonymous, swap, pages) in enumerate(kinds):
        start = (number + 1) << 20
        lines.append(mapping(start, perms, path, anonymous=4 * anonymous, swap=4 * swap, pages=pages))
        if perms in ("r-xp", "r--p") and path == LIBRARY and not anonymous and not swap:
            expected.append((start, pages * 4096))
    assert found(*lines) == expected


def ran(root: Path, code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.split()


RESIDENT = "int(open('/proc/self/statm').read().split()[1]) * 4 / 1024"


def test_code_that_was_given_back_still_runs(root: Path) -> None:
    code = f"""
import numpy as np
from agent.adapters import memory
def work():
    return float(np.linalg.inv(np.arange(9.0).reshape(3, 3) + np.eye(3)).sum())
first, before = work(), {RESIDENT}
memory.settle()
after = {RESIDENT}
print(before, after, first == work())
"""
    before, after, same = ran(root, code)
    assert same == "True" and float(after) < float(before) - 5


def test_what_the_garbage_collector_would_go_through_is_frozen(root: Path) -> None:
    code = "import gc\nfrom agent.adapters import memory\nmemory.settle()\nprint(gc.get_freeze_count(), gc.isenabled())"
    count, enabled = ran(root, code)
    assert int(count) > 1000 and enabled == "True"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc")
@pytest.mark.parametrize("bounded", [False, True])
def test_large_blocks_stay_out_of_the_heap_although_one_was_freed(root: Path, bounded: bool) -> None:
    """Without the bound, the second case shows, glibc puts them in."""
    code = f"""
import ctypes
from agent.adapters import memory
if {bounded}:
    memory.one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.free(libc.malloc(3 << 20))
block = libc.malloc(1 << 20)
heap = next(line for line in open("/proc/self/maps") if "[heap]" in line).split()[0].split("-")
print(int(heap[0], 16) <= block < int(heap[1], 16))
"""
    assert ran(root, code) == [str(not bounded)]
