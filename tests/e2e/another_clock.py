"""The wall clock of one process, set at will while it runs; the machine's own is left alone."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")


class AnotherClock:
    """`under` starts a process by this clock. Skips the test where it cannot be built."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None or not sys.platform.startswith("linux"):
            pytest.skip("needs a C compiler on Linux to give a process another clock: apt-get install gcc")
        if sys.version_info < (3, 11):
            # Waits of older Pythons follow the wall clock, and the kernel, which ends them, knows only the real one.
            pytest.skip("needs Python 3.11: before, Python's own waits cannot be given another clock")
        library, self._file = folder / "another_clock.so", folder / "clock"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True, capture_output=True)
        self.right()
        self.under = ("env", f"LD_PRELOAD={library}", f"ANOTHER_CLOCK={self._file}")

    def set(self, year: int) -> None:
        """New Year of `year`, from now on."""
        # Up, not down: there is no time before 1970.
        self._be_off_by(math.ceil((year - 1970) * 365.2425 * 86_400 - time.time()))

    def right(self) -> None:
        self._be_off_by(0)

    def _be_off_by(self, seconds: int) -> None:
        aside = self._file.with_suffix(".new")
        aside.write_text(str(seconds))
        aside.replace(self._file)
