"""TFLite and torch as they are here, and as they are on machines where they are broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent.doctor import computing
from agent.doctor.probe import ask

DIES = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"
WRONG = """
import sys
sys.modules.pop("ai_edge_litert", None)
from ai_edge_litert.interpreter import Interpreter as Right


class Interpreter(Right):
    def get_tensor(self, index, *rest):
        return super().get_tensor(index, *rest) * 1.5
"""


@pytest.fixture
def shadowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that probes import from first."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def package(folder: Path, name: str, **modules: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(modules.pop("init", ""))
    for module, code in modules.items():
        (folder / name / f"{module}.py").write_text(code)


def test_the_python_that_runs_is_named() -> None:
    finding = computing.examine_python()
    assert finding["state"] == "works" and finding["detail"].startswith(sys.version.split()[0])


@pytest.mark.spec("12.1")
def test_tflite_computes_here_what_numpy_computes() -> None:
    finding = computing.examine_tflite()
    assert finding["state"] == "works" and ": right; " in finding["detail"], finding


@pytest.mark.spec("12.1")
def test_a_library_with_instructions_that_this_processor_lacks_fails(shadowed: Path) -> None:
    package(shadowed, "ai_edge_litert", init=DIES)
    finding = computing.examine_tflite()
    assert finding["state"] == "fails" and "illegal instruction" in finding["detail"]


@pytest.mark.spec("12.1")
def test_a_library_that_computes_wrongly_fails(shadowed: Path) -> None:
    """As tflite-runtime does beside numpy 2: no error, other numbers."""
    pytest.importorskip("ai_edge_litert")
    package(shadowed, "tflite_runtime", interpreter=WRONG)
    said = ask("tflite", {"library": "tflite_runtime"}).said
    assert said["float_error"] == pytest.approx(0.5, abs=0.01)
    # Not the one that the daemon takes: mentioned, no more.
    finding = computing.examine_tflite()
    assert finding["state"] == "works" and "; not used: tflite_runtime computes wrongly" in finding["detail"]
    finding = computing._judged("tflite_runtime", said)
    assert finding["state"] == "fails" and "wrongly: off by 50" in finding["detail"] and "numpy<2" in finding["advice"]


def test_a_library_that_is_absent_says_so() -> None:
    assert "no_such_library" in ask("tflite", {"library": "no_such_library"}).said["absent"]


@pytest.mark.parametrize(
    ("changes", "state", "advice"),
    [
        ({}, "works", ""),
        ({"int8_ms": 9.0}, "limited", "quantise: none"),
        ({"int8_error": 0.4}, "limited", "quantise: none"),
        ({"int8_error": float("nan")}, "limited", "quantise: none"),
        ({"float_error": float("nan")}, "fails", "upgrade"),
    ],
)
def test_what_int8_is_worth(changes: dict[str, float], state: str, advice: str) -> None:
    said = {"float_error": 1e-7, "float_ms": 1.0, "int8_error": 0.01, "int8_ms": 0.3, "version": "1.0"} | changes
    finding = computing._judged("ai_edge_litert", said)
    assert finding["state"] == state and advice in finding["advice"]


@pytest.mark.spec("12.1")
def test_torch_that_dies_of_an_illegal_instruction_leaves_the_head_tier(shadowed: Path) -> None:
    package(shadowed, "torch", init=DIES)
    finding = computing.examine_torch()
    assert finding["state"] == "limited"
    assert "illegal instruction: head tier only" in finding["detail"] and "<2.10" in finding["advice"]


def test_torch_that_is_not_there_leaves_the_head_tier(shadowed: Path) -> None:
    package(shadowed, "torch", init="raise ImportError('libcudart.so.13: cannot open shared object file')\n")
    finding = computing.examine_torch()
    assert finding["state"] == "limited"
    assert "head tier only" in finding["detail"] and "libcudart" in finding["detail"]
    assert "understudy[train]" in finding["advice"]


def test_torch_that_works_offers_all_tiers() -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'understudy[train]'")
    finding = computing.examine_torch()
    assert finding["state"] == "works" and ": all tiers; " in finding["detail"], finding
