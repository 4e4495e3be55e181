"""`understudy demo`: the whole loop on real images, in separate processes, while you watch."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

EXAMPLES = """examples:
  understudy demo                                         scanned digits, about a minute
  understudy demo --privacy local                         nothing made from an image leaves the device
  understudy demo --data cifar10 --data-dir DIR --teacher resnet56.th
  understudy demo --data folder --data-dir DIR            any folder of category folders
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="understudy demo",
        description="A broker, a teacher worker and the device's daemon run for real; a category is learned and "
        "hot-swapped while images keep arriving.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", choices=("auto", "digits", "cifar10", "folder"), default="auto", help="default: digits"
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="CIFAR-10's official files, or category folders")
    parser.add_argument("--teacher", type=Path, metavar="FILE", help="published weights (.th) or a teacher bundle")
    parser.add_argument("--new", metavar="CATEGORY", help="the category the device has not seen; default: the last")
    parser.add_argument("--privacy", choices=("local", "teacher_download", "upload"), default="upload")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of the student's compression")
    parser.add_argument(
        "--size", type=int, default=64, metavar="PIXELS", help="side of photographs (folder); default 64"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where teacher and student are kept")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder with all logs")
    parser.add_argument("--plain", action="store_true", help="plain lines, also on a terminal")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    arguments = parser.parse_args(argv)
    return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    from cloud_teacher.datasets import DatasetError, default_cache
    from cloud_teacher.recognise import recognise
    from demo.audience import audience
    from demo.broker import BrokerError
    from demo.processes import ProcessError
    from demo.story import Plan, StoryError, tell

    see = audience(json_last=arguments.json, plain=arguments.plain)
    scene = Path(tempfile.mkdtemp(prefix="understudy-demo-"))
    keep = arguments.keep
    try:
        cache = arguments.cache or default_cache()
        dataset = recognise(
            arguments.data, arguments.data_dir, cache_dir=cache, size=arguments.size, report=see.progress
        )
        new = arguments.new or dataset.labels[-1]
        if new not in dataset.labels:
            raise DatasetError(f"--new {new}: there is no such category; there are {', '.join(dataset.labels)}")
        if arguments.teacher is not None and not arguments.teacher.exists():
            raise DatasetError(f"--teacher {arguments.teacher}: there is no such file")
        plan = Plan(
            dataset=dataset,
            data_arguments=_data_arguments(arguments, dataset.name),
            new_label=new,
            privacy=arguments.privacy,
            cache=cache,
            scene=scene,
            teacher=arguments.teacher,
            epochs=arguments.epochs,
        )
        outcome = tell(plan, see)
    except DatasetError as error:
        see.say(f"{error}", kind="bad")
        return 2
    except (BrokerError, ProcessError, StoryError, OSError) as error:
        keep = True
        see.say(f"{error}", kind="bad")
        see.say(f"everything is in {scene}", kind="quiet")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        see.close()
        if not keep:
            shutil.rmtree(scene, ignore_errors=True)
    see.table("What happened", rows(outcome, new))
    if keep:
        see.say(f"kept: {scene}", kind="quiet")
    if not outcome.ok:
        see.say(f"not as it should be (gate: {outcome.gate})", kind="bad")
    if arguments.json:
        print(outcome.as_json(), flush=True)
    return 0 if outcome.ok else 1


def rows(outcome: object, new: str) -> list[tuple[str, ...]]:
    from demo.story import Outcome

    assert isinstance(outcome, Outcome)
    return [
        ("", "before", "after"),
        ("accuracy, known categories", f"{outcome.old_before:.1%}", f"{outcome.old_after:.1%}"),
        (f"accuracy, {new!r}", f"{outcome.new_before:.1%}", f"{outcome.new_after:.1%}"),
        ("flagged as novel: new / known", f"{outcome.novel_found:.1%}", f"{outcome.false_alarms:.1%}"),
        ("trigger to swapped model", "", f"{outcome.round_s:.1f} s"),
        ("to and from the teacher, an image", "", f"{outcome.bytes_per_image:.0f} bytes"),
        ("images served / dropped", str(outcome.frames), str(outcome.dropped_frames)),
        ("longest wait during the swap", "", f"{outcome.swap_gap_ms:.1f} ms"),
        ("daemon's memory, RSS / PSS", f"{outcome.daemon_rss_mib:.0f} MiB", f"{outcome.daemon_pss_mib:.0f} MiB"),
        ("whole demo", "", f"{outcome.total_s:.0f} s"),
    ]


def _data_arguments(arguments: argparse.Namespace, name: str) -> list[str]:
    data = arguments.data if arguments.data != "auto" else ("folder" if name not in ("digits", "cifar10") else name)
    out = ["--data", data]
    if arguments.data_dir is not None:
        out += ["--data-dir", str(arguments.data_dir)]
    if data == "folder":
        out += ["--size", str(arguments.size)]
    return out


if __name__ == "__main__":
    sys.exit(main())
