"""Durable writes in a folder, as the daemon makes them: how many a second, and how many MB a second."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from agent.doctor.probe import request
from transfer.durable import write_atomic

SMALL_BYTES, LARGE_BYTES = 4096, 4 * 1024 * 1024
ENOUGH_S = 1.0  # a slow card is known to be slow after a second, and need not be worn further
MOST = 20


def main() -> None:
    nearest = Path(request()["folder"])
    try:
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".understudy-doctor-") as folder:
            began_s, count = time.perf_counter(), 0
            while count < MOST and time.perf_counter() - began_s < ENOUGH_S:
                write_atomic(Path(folder) / "small", os.urandom(SMALL_BYTES))
                count += 1
            small_s = (time.perf_counter() - began_s) / count
            began_s = time.perf_counter()
            write_atomic(Path(folder) / "large", os.urandom(LARGE_BYTES))
            large_s = time.perf_counter() - began_s
    except OSError as error:
        print(json.dumps({"error": error.strerror or str(error), "number": error.errno}))
        return
    print(json.dumps({"small_ms": small_s * 1000, "mb_per_s": LARGE_BYTES / 1e6 / large_s}))


if __name__ == "__main__":
    main()
