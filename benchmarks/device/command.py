"""`python -m benchmarks footprint ...` and its sisters: one command line for all that measures what a device spends."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.device.conditions import Conditions
from benchmarks.device.findings import Findings

BENCHMARKS = {
    "footprint": "memory, CPU, start and writes of the real daemon",
    "inference": "one image and thirty-two, beside torch and onnxruntime",
    "swap": "a thousand swaps of the model under a stream of frames",
    "step": "one optimiser step of every tier, beside full fine-tuning",
    "round": "a learning round from trigger to swapped model, beside the usual ways",
    "wire": "bytes an image for what the teacher says",
    "powercut": "a thousand kills under load, and what was acknowledged",
    "soak": "an hour of everything, mixed: memory, descriptors, threads and disk",
}
RESULTS = Path(__file__).parent.parent / "results" / "device"


def main(name: str, argv: Sequence[str]) -> int:
    """Measure `name`; exit status 0 measured, 1 it could not be, 2 wrong arguments."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `understudy agent run`; numpy reads it where it is imported
    module = import_module(f"benchmarks.device.{name}")
    arguments = _parser(name, module.__doc__ or "").parse_args(argv)

    def note(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    conditions = Conditions(
        quick=arguments.quick,
        cache=arguments.cache or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "understudy",
        data_dir=arguments.data_dir,
        teacher=arguments.teacher,
        kills=arguments.kills,
        minutes=arguments.minutes,
        note=note,
    )
    try:
        found: Findings = module.measure(conditions)
    # All our own errors are ValueErrors or RuntimeErrors with a line that says what to do.
    except (ValueError, RuntimeError, OSError) as error:
        note(f"python -m benchmarks {name}: {error}")
        return 1
    if not arguments.json:
        print(found.shown(colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    if not conditions.quick:
        note(f"written to {found.save(arguments.results).name}; `python -m benchmarks render` puts it into the docs")
    if arguments.json:
        print(json.dumps(found.document(), ensure_ascii=False), flush=True)
    return 0


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="within a minute: does it work? nothing is written")
    parser.add_argument("--json", action="store_true", help="no table, but one line of JSON at the end")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="CIFAR-10's official files, where accuracy counts")
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE", help="a teacher of that data: bundle or published weights"
    )
    parser.add_argument("--kills", type=int, metavar="N", help="powercut only: how many (default 1,000)")
    parser.add_argument("--minutes", type=float, metavar="N", help="soak only: how long (default 60)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where what is expensive to make is kept")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="for the JSON (default: ours)")
    return parser
