"""`python -m benchmarks.device.cut_trainer JOBDIR`: the real trainer, whose commit points can end it and its daemon."""

from __future__ import annotations

import sys

from benchmarks.device.commit_points import CommitPoints, die_as_trainer, from_environment

if __name__ == "__main__":
    CommitPoints(from_environment(), die_as_trainer).install()
    from agent.trainer.__main__ import main

    sys.exit(main())
