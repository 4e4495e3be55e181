from __future__ import annotations

from pathlib import Path

from benchmarks.stopwatch import Stopwatch
from cloud_teacher.progress import silent
from transfer.networks import Network
from transfer.spec import resnet_cifar

NET = Network(resnet_cifar(8, 2, widths=(4, 4, 4)))


def test_only_its_stage_counts_and_a_later_start_counts_on(tmp_path: Path) -> None:
    times = iter([0.0, 10.0, 12.0, 15.0, 40.0, 100.0, 101.5])
    told: list[str] = []

    def report(stage: str, done: int, total: int, detail: str = "") -> None:
        told.append(stage)

    watch = Stopwatch(tmp_path / "deep" / "seconds.txt", "train", report, lambda: next(times))
    watch.report("ask", 0, 1)
    watch.report("train", 0, 2)
    watch.report("train", 1, 2)
    watch.keep(1, NET)
    watch.report("train", 2, 2)
    watch.report("pack", 0, 1)
    assert watch.seconds == 5.0 and told == ["ask", "train", "train", "train", "pack"]
    # Killed after the first epoch: what came after it was not kept, and is done again.
    resumed = Stopwatch(tmp_path / "deep" / "seconds.txt", "train", silent, lambda: next(times))
    assert resumed.seconds == 2.0
    resumed.report("train", 1, 2)
    resumed.report("train", 2, 2)
    assert resumed.seconds == 3.5


def test_a_damaged_file_counts_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "seconds.txt"
    path.write_bytes(b"\xff many")
    assert Stopwatch(path, "train", silent).seconds == 0.0
