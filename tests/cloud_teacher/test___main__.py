from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cloud_teacher.__main__ import fleet_main, main, teacher_main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("group", ["teacher", "fleet"])
def test_help_teaches_and_imports_nothing_heavy(group: str) -> None:
    code = (
        "import sys\nfrom cloud_teacher.__main__ import main\n"
        f"try:\n    main(['{group}', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "sys.exit(bool({'torch', 'numpy', 'paho', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout and f"understudy {group}" in done.stdout


def test_the_operators_commands_need_no_torch() -> None:
    code = "import sys, cloud_teacher.fleet_commands, cloud_teacher.watch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["teacher"],
        ["teacher", "compress", "--teacher", "t"],
        ["teacher", "compress", "--teacher", "t", "--out", "o", "--known", "a", "--unknown", "b"],
        ["teacher", "train", "--data", "mnist", "--out", "o"],
        ["fleet", "trigger", "--category", "nine"],
        ["fleet", "command", "explode", "edge-1", "--key", "k"],
        ["fleet", "trigger", "--category", "nine", "--key", "k", "--samples", "many"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: understudy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--params", "0.27 Mio"], "write 270000, 270k, 0.27M or 1.5G"),
        (["--macs", "0"], "less than 1"),
        (["--threshold", "90"], "at most 1"),
        (["--params", "0.27M", "--macs", "10M"], "not allowed with"),
        (["--threshold", "0.9", "--params", "270k"], "not allowed with"),
        (["--score", "weights"], "choose from"),
        (["--blocks", "4;4;3"], "such as 4,4,3"),
    ],
)
def test_sizes_that_make_no_sense_are_explained(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["teacher", "compress", "--teacher", "t", "--out", "o", "--known", "a,b", *arguments])
    assert end.value.code == 2 and says in capsys.readouterr().err


def test_an_unknown_group_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and main(["agent"]) == 2 and main(["--help"]) == 0
    assert "{teacher,fleet}" in capsys.readouterr().err


@pytest.mark.parametrize("run", [teacher_main, fleet_main])
def test_every_command_has_help(run: object, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"train", "compress", "serve"} if run is teacher_main else {"trigger", "watch", "keygen", "command"}
    for name in names:
        with pytest.raises(SystemExit) as end:
            run([name, "--help"])  # type: ignore[operator]
        assert end.value.code == 0
        assert f"understudy {'teacher' if run is teacher_main else 'fleet'} {name}" in capsys.readouterr().out
