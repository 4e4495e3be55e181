"""The most memory that a Python program held, as the kernel counted it.

`python -m benchmarks.device.peak MODULE ARGUMENT...` runs the module as `python -m` would, in this very process, and
prints the peak last. Asked from outside, a process that has ended no longer says; and what the kernel remembers of an
ended child includes what its parent held when it forked.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
MARK = "peak MiB"


class PeakError(RuntimeError):
    """The program failed; the message is the end of what it said."""


def peak_mib(module: str, *arguments: str) -> float | None:
    """Of `python -m MODULE ARGUMENT...` with one thread, run to its end; None where the kernel does not say. Raises
    PeakError."""
    command = [sys.executable, "-m", "benchmarks.device.peak", module, *arguments]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **THREADS}, capture_output=True, text=True, check=False
    )
    *_, last = ended.stdout.strip().splitlines() or [""]
    name, _, told = last.partition(":")
    if ended.returncode or name != MARK:
        raise PeakError(f"{module} ended with {ended.returncode}: {ended.stderr.strip()[-500:]}")
    return float(told) if told.strip() else None


def main(argv: Sequence[str]) -> int:
    module, *arguments = argv
    sys.argv = [module, *arguments]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    print(f"{MARK}: {_peak_mib() or ''}")
    return code


def _peak_mib() -> float | None:
    """VmHWM of this process; Linux only."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
