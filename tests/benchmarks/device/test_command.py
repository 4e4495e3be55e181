from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.device import command
from benchmarks.device.conditions import Conditions
from benchmarks.device.findings import Findings

FOUND = Findings("swap", {"dropped": 3}, [{"peer": "ours", "ms": 1.0}])


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Conditions]:
    """What the benchmark was called with; it is a module that finds FOUND, or fails where there is a teacher."""
    seen: list[Conditions] = []

    def measure(conditions: Conditions) -> Findings:
        seen.append(conditions)
        if conditions.teacher:
            raise ValueError("no such teacher: name another")
        conditions.note("measuring")
        return FOUND

    fake = ModuleType("benchmarks.device.swap", "Swaps.\n\nHow they are measured.")
    fake.measure = measure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    return seen


def test_the_table_is_shown_and_the_results_written(
    given: list[Conditions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmarks.main(["swap", "--cache", str(tmp_path), "--results", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "ours" in said.out and "measuring" in said.err and "swap.json" in said.err
    assert json.loads((tmp_path / "swap.json").read_text("utf-8"))["dropped"] == 3
    assert given[0].cache == tmp_path and not given[0].quick


def test_quick_writes_nothing_and_json_is_the_last_line(
    given: list[Conditions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmarks.main(["swap", "--quick", "--json", "--results", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == FOUND.document()
    assert list(tmp_path.iterdir()) == [] and given[0].quick


def test_what_cannot_be_measured_says_why(
    given: list[Conditions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmarks.main(["swap", "--teacher", "x", "--results", str(tmp_path)]) == 1
    assert "python -m benchmarks swap: no such teacher: name another" in capsys.readouterr().err


def test_help_tells_how_it_is_measured(given: list[Conditions], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmarks.main(["swap", "--help"])
    assert ended.value.code == 0 and "How they are measured." in capsys.readouterr().out


def test_every_benchmark_is_a_module_with_a_measure() -> None:
    for name in command.BENCHMARKS:
        source = (Path(command.__file__).parent / f"{name}.py").read_text("utf-8")
        assert "\ndef measure(conditions: Conditions" in source and ") -> Findings:" in source
