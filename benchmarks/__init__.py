"""The paper's tables and ours, measured again on this machine: `python -m benchmarks --help`.

A table is a module with `TABLE`, what it is, and `cells(setting)`, its units of work (`benchmarks.cells`). Everything
is resumable: a cell's result is kept as soon as it is measured, and trainings go on after their last finished epoch.
"""

import os

# Threads that wait must sleep, as in agent.trainer: benchmarks share their cores with others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
