"""`python -m benchmarks TABLE ...`. Nothing heavy is imported before it is known what to do."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.device import command
from benchmarks.device.command import BENCHMARKS

TABLES = {
    "table1": "compression: accuracy against parameters and multiply-accumulates",
    "table2": "compression beside published figures, and as int8",
    "table3": "iterations to the same accuracy, with and without the teacher",
    "table4": "9+1: one new category, every method and baseline",
    "table5": "9+1 on a folder of photographs",
    "table6": "seconds of a round and of inference",
    "table7": "categories of which no image was ever seen",
    "sequence": "5+1+1+1+1+1: new categories one after the other",
    "novelty": "how well a category that was left out is noticed",
    "ablation": "what our own choices are worth, on training images",
    "choices": "the baselines' hyper-parameters, chosen on training images",
}
COMMANDS = {"render": "docs/results.md and docs/resource-limits.md from benchmarks/results"}
STOPPED = 75
"""Exit status where there is more to do: start the same command again."""

EPILOG = """
TABLE is one of
{tables}
or, with options of their own (--help), one of what a device spends
{device}
or a command:
{commands}

--quick takes about a minute and proves only that everything works; its figures mean nothing. In earnest a table takes
hours at --scale cpu, nearly all of it for training students: --only METHOD makes a start. Every result is kept in the
cache as soon as it is measured and every training goes on after its last finished epoch: stop a benchmark whenever you
like (Ctrl-C, SIGTERM, the plug) and start the same command again.

Exit status: 0 all measured; 1 a method failed (its row says why), the others are there; 2 wrong arguments; 75 stopped.

examples:
  python -m benchmarks table4 --quick
  python -m benchmarks table4 --data-dir DIR/cifar-10-batches-py --teacher resnet56-4bfd9763.th --only default,joint
  python -m benchmarks table4 --data-dir ... --teacher ... --new each
  python -m benchmarks footprint
  python -m benchmarks render
"""


def main(argv: Sequence[str] | None = None) -> int:
    asked = list(sys.argv[1:] if argv is None else argv)
    if asked and asked[0] in BENCHMARKS:
        return command.main(asked[0], asked[1:])
    if asked and asked[0] in COMMANDS:
        return int(import_module(f"benchmarks.{asked[0]}").main(asked[1:]))
    arguments = _parser().parse_args(asked)
    from cloud_teacher.progress import for_person

    def note(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        return _measure(arguments, note, for_person(sys.stderr))
    # All our own errors are ValueErrors; anything else is a fault of ours and shows where it came from.
    except (ValueError, OSError) as error:
        note(f"python -m benchmarks {arguments.table}: {error}")
        return 1


def _measure(arguments: argparse.Namespace, note: Any, report: Any) -> int:
    from benchmarks import cells, table
    from benchmarks.allowance import Allowance
    from benchmarks.setting import Setting
    from cloud_teacher.datasets import default_cache

    module = import_module(f"benchmarks.{arguments.table}")
    setting = Setting(
        table=arguments.table,
        cache=arguments.cache or default_cache() / "benchmarks",
        scale=arguments.scale,
        data_dir=arguments.data_dir,
        teacher_path=arguments.teacher,
        quick=arguments.quick,
        seeds=arguments.seeds,
        threads=arguments.threads,
        only=tuple(part.strip() for part in arguments.only.split(",") if part.strip()),
        new=arguments.new,
        fresh=arguments.fresh,
        minutes=arguments.minutes,
        results=arguments.results,
        proxy=arguments.proxy,
        report=Allowance(arguments.minutes, report) if arguments.minutes else report,
    )
    try:
        with cells.stopping():
            if not setting.quick:
                cells.take_over(setting, table.published_at(setting))
            setting.open()
            known = module.cells(setting)
            _check_only(setting.only, [cell.method for cell in known])
            done, stopped = cells.measure(setting, known, note)
    except cells.Stopped:
        done, stopped = [], True
    found = table.rows(module.TABLE, done)
    if not arguments.json:
        print(table.shown(module.TABLE, found, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    if done and not setting.quick and (found or table.published_at(setting).exists()):
        note(f"written to {table.save(setting, found, done).name}")
    if arguments.json:
        print(json.dumps(table.document(setting, found), ensure_ascii=False), flush=True)
    if stopped:
        note("stopped; what is measured is kept: start the same command again to go on")
        return STOPPED
    return 1 if cells.failed(setting, done) else 0


def _check_only(only: Sequence[str], methods: Sequence[str]) -> None:
    strangers = sorted(set(only) - set(methods) - {method.split(" ")[0] for method in methods})
    if strangers:
        known = ", ".join(dict.fromkeys(methods))
        raise ValueError(f"--only: there is no method {', '.join(strangers)} here; there are {known}")


def _parser() -> argparse.ArgumentParser:
    listed = {
        n: "\n".join(f"  {k:<10}{v}" for k, v in d.items())
        for n, d in (("t", TABLES), ("c", COMMANDS), ("d", BENCHMARKS))
    }
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure one of the paper's tables, or one of ours, on this machine.",
        epilog=EPILOG.format(tables=listed["t"], commands=listed["c"], device=listed["d"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", choices=tuple(TABLES), metavar="TABLE")
    parser.add_argument(
        "--scale", choices=("cpu", "paper"), default="cpu", help="2 cores, or the paper's nets on a GPU"
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="CIFAR-10's files, or folders of categories")
    parser.add_argument("--teacher", type=Path, metavar="FILE", help="its bundle or published weights (default: train)")
    parser.add_argument("--quick", action="store_true", help="tiny and once: does it work? digits without --data-dir")
    parser.add_argument("--json", action="store_true", help="no table, but the rows as one line of JSON at the end")
    parser.add_argument("--seeds", type=_count, default=3, metavar="N", help="default 3")
    parser.add_argument("--only", default="", metavar="METHOD,...", help="measure these, show what is known of others")
    parser.add_argument("--new", default="", metavar="CATEGORY", help="learn this one, or `each` in turn (table4)")
    parser.add_argument(
        "--threads",
        type=_count,
        default=1,
        metavar="N",
        help="default 1: two benchmarks side by side use two cores better than one",
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="begin nothing after so many minutes; exit 75")
    parser.add_argument(
        "--proxy", type=Path, metavar="DIR", help="any pictures, more to ask the teacher about (table7)"
    )
    parser.add_argument("--fresh", action="store_true", help="measure again; students and teachers are kept")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="results, students, checkpoints (default: ~/.cache)")
    results = Path(__file__).parent / "results"
    parser.add_argument("--results", type=Path, default=results, metavar="DIR", help="for the JSON (default: here)")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
