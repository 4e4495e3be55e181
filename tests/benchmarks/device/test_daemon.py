"""The daemon as a process of its own: it serves, it ends, and what goes wrong is told with its own words."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.device.daemon import Daemon, DaemonFailed, environment, scene


def test_it_serves_what_it_is_shown_and_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    with scene(tmp_path / "scene", 3) as of:
        assert len(of.images) == 3 and of.broker.process.poll() is None
        one = Daemon(tmp_path / "one", of, of.images[0])
        try:
            first_s = one.until_verdicts(1)
            for image in of.images[1:]:
                one.show(image)
            assert 0 < first_s < one.until_verdicts(3)
        finally:
            one.close()
        assert one.process.returncode == 0

        astray = Daemon(tmp_path / "two", replace(of, bundle=tmp_path / "nowhere"), of.images[0])
        with pytest.raises(DaemonFailed, match="nowhere"):
            astray.until_verdicts(1)
        with pytest.raises(DaemonFailed, match="ended with 1"):
            astray.close()
    assert of.broker.process.poll() is not None


def test_what_a_service_has_not_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    told = environment()
    assert not {"OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE"} & set(told)
    assert told["PYTHONPATH"].endswith(":/elsewhere")


def test_who_drives_it_shares_no_pages_with_it() -> None:
    """numpy and LiteRT in this process would make the daemon's PSS smaller than it is."""
    code = (
        "import sys, benchmarks.device.footprint\nprint(sorted({'numpy', 'ai_edge_litert', 'PIL'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
