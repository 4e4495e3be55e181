"""Each contender really holds the model and has run it when it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.device import model
from benchmarks.device.contenders import CONTENDERS
from transfer.spec import resnet_cifar

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = resnet_cifar(8, len(model.LABELS), widths=(4, 6, 8))
    return model.bundle_of_half_a_million(tmp_path_factory.mktemp("contenders") / "bundle", spec=spec)


@pytest.mark.parametrize("name", list(CONTENDERS))
def test_it_serves_and_ends_with_its_input(name: str, bundle: Path) -> None:
    if name == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
    command = [sys.executable, "-m", "benchmarks.device.contenders", name, str(bundle)]
    ran = subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, check=True)
    assert ran.stdout == "served\n"


def test_one_that_cannot_says_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.device.contenders", "litert", str(tmp_path / "nothing")]
    ran = subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, check=False)
    assert ran.returncode != 0 and ran.stdout == ""
