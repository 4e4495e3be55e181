"""The command line, as a person or a program runs it, on a folder of pictures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import COMMANDS, TABLES, main
from benchmarks.table import COLUMNS
from cloud_teacher.zoo import Teacher
from tests.benchmarks import toy
from transfer.preprocess import encode_png

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("--quick", "--threads", "1")
METHODS = ("head", "ncm", "slda")
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, knowing: Teacher) -> list[str]:
    """Arguments: a folder of pictures, one folder a category, a teacher that knows them, and a cache."""
    folder, data = tmp_path_factory.mktemp("given"), toy.data()
    for number, (image, target) in enumerate(zip(data.train_images, data.train_targets, strict=True)):
        category = folder / "pictures" / data.labels[target]
        category.mkdir(parents=True, exist_ok=True)
        (category / f"{number:03d}.png").write_bytes(encode_png(image))
    places = {"--data-dir": folder / "pictures", "--teacher": knowing.bundle_dir, "--cache": folder / "cache"}
    return [str(word) for pair in places.items() for word in pair]


@pytest.fixture(scope="module")
def cache(given: list[str]) -> Path:
    return Path(given[-1])


def table4(given: list[str], *more: str) -> list[str]:
    return ["table4", *QUICK, *given, "--only", ",".join(METHODS), *more]


def test_killed_at_any_moment_it_goes_on_where_it_was(
    given: list[str], cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """First in the middle of making the student, by SIGTERM; then after the first result, by SIGKILL."""
    command = [sys.executable, "-m", "benchmarks", *table4(given, "--json")]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None and any(line.startswith("train student") for line in first.stderr)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=LIMIT_S)
    assert first.returncode == 75 and "start the same command again" in err
    assert json.loads(out.splitlines()[-1])["rows"] == []

    second = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait(second, lambda: any(cache.glob("cells/*.json")))
    second.kill()
    second.wait(LIMIT_S)
    there = {path: path.stat().st_mtime_ns for path in cache.glob("cells/*.json")}

    assert main(table4(given, "--json", "--results", str(tmp_path))) == 0
    printed = capsys.readouterr()
    assert f"{len(there)} of " in printed.err
    assert {path: path.stat().st_mtime_ns for path in there} == there
    last = json.loads(printed.out.splitlines()[-1])
    assert set(last) == {"table", "scale", "rows"} and (last["table"], last["scale"]) == ("table4", "cpu")
    assert {row["method"] for row in last["rows"]} == set(METHODS)
    for row in last["rows"]:
        assert tuple(row)[: len(COLUMNS)] == COLUMNS
        assert row["seeds"] == 1 and 0 <= row["all"] <= 100 and row["spread"] is None
    assert not list(tmp_path.iterdir())  # --quick's figures are nobody's results


def test_what_is_there_is_shown_at_once(given: list[str], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not any(cache.glob("cells/*.json")):
        pytest.skip("the test before this one has measured nothing")
    assert main(table4(given)) == 0
    printed = capsys.readouterr()
    assert "[1/" not in printed.err  # nothing is measured
    assert printed.out.startswith("9+1") and all(f"\n{name}" in printed.out for name in METHODS)
    assert "\x1b" not in printed.out


def test_help_teaches_every_table_without_importing_torch() -> None:
    code = "import sys; sys.argv[1:] = ['--help']; import benchmarks.__main__ as m\n"
    code += "try: m.main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for word in (*TABLES, *COMMANDS, "--quick", "start the same command again", "75"):
        assert word in shown, word


def test_a_method_that_there_is_not_is_said_before_anything_is_measured(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table4", *QUICK, *given, "--only", "lfw"]) == 1
    err = capsys.readouterr().err
    assert "no method lfw" in err and "lwf" in err


@pytest.mark.parametrize("argv", [["nothing"], ["table4", "--seeds", "0"], ["table4", "--scale", "moon"]])
def test_wrong_arguments_end_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2


def test_a_folder_that_is_no_data_is_an_error_and_not_a_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table4", *QUICK, "--cache", str(tmp_path), "--data-dir", str(tmp_path / "none")]) == 1
    assert "python -m benchmarks table4: " in capsys.readouterr().err


def _wait(process: subprocess.Popen[Any], ready: Callable[[], bool]) -> None:
    """Until `ready()`; fails where the process ends first or nothing comes."""
    ends_s = time.monotonic() + LIMIT_S
    while not ready():
        assert process.poll() is None, f"ended with {process.returncode} before there was anything"
        assert time.monotonic() < ends_s, "nothing came"
        time.sleep(0.05)
