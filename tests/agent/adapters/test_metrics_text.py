"""Prometheus' own parser reads what we write; what cannot be measured has no figure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.metrics_text import METRICS, exposition

PAGE = Path(__file__).resolve().parents[3] / "docs" / "observability.md"
TALLY = {"allowed_messages": 1, "allowed_bytes": 20, "denied_messages": 3, "denied_bytes": 9}
STATUS: dict[str, Any] = {
    "phase": "training",
    "frames": 100,
    "novel_frames": 7,
    "dropped_frames": 1,
    "errors": 2,
    "serving": True,
    "generation": 2,
    "model": {"name": "tiny", "digest": "ab" * 32, "from": "round", "scores": {"old_after": 0.9, "new_after": None}},
    "live": {"frames": 10, "novel_frames": 1, "mean_confidence": 0.75, "generation": 2},
    "noticed": None,
    "probes": 64,
    "probes_missed": 0,
    "progress": {"stage": "train", "done": 1, "total": 4},
    "rounds_begun": 3,
    "failures": 1,
    "samples": 12,
    "connected": False,
    "outbox_messages": 4,
    "outbox_bytes": 4096,
    "outbox_dropped": {"too_old": 1, "made_room": 2, "refused": 0},
    "live_dropped": 5,
    "egress": {"operational": TALLY, "image": TALLY},
    "not_written": {"samples": 2},
    "disk_refused": {},
    "reading": {
        "cpu_percent": 12.5,
        "load_per_core": None,
        "available_mib": 512.0,
        "own_rss_mib": 42.0,
        "trainer_rss_mib": None,
        "temperature_c": None,
        "battery_percent": 80.0,
        "on_power": True,
        "disk_free_mib": 1000.0,
        "written_today_mib": 1.5,
    },
}


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed: extra dev")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.spec("18.2", "6.1")
def test_prometheus_reads_every_figure() -> None:
    found = parsed(exposition(STATUS))
    for name, labels, value in (
        ("understudy_frames_total", (), 100),
        ("understudy_phase", (("phase", "training"),), 1),
        ("understudy_phase", (("phase", "idle"),), 0),
        ("understudy_accuracy_ratio", (("categories", "old"),), 0.9),
        ("understudy_live_novel_ratio", (), 0.1),
        ("understudy_training_progress_ratio", (), 0.25),
        ("understudy_outbox_dropped_total", (("why", "made_room"),), 2),
        ("understudy_egress_bytes_total", (("kind", "image"),), 20),
        ("understudy_resident_memory_bytes", (("process", "daemon"),), 42 * 2**20),
        ("understudy_written_day_bytes", (), 1.5 * 2**20),
        ("understudy_battery_ratio", (), 0.8),
        ("understudy_link_up", (), 0),
        ("understudy_serving", (), 1),
    ):
        assert found[name, labels] == pytest.approx(value), name


def test_what_this_machine_cannot_measure_has_no_figure() -> None:
    text = exposition(STATUS)
    assert "temperature" not in text and "load_per_core" not in text and "disk_refused" not in text
    assert 'process="trainer"' not in text and 'categories="new"' not in text


@settings(deadline=None)
@given(name=st.text(max_size=30))
def test_a_model_of_any_name_breaks_nothing(name: str) -> None:
    model = {**STATUS["model"], "name": name.replace("\r", "")}
    labels = [dict(key[1]) for key in parsed(exposition({**STATUS, "model": model})) if key[0].endswith("model_info")]
    assert [each["from"] for each in labels] == ["round"]


def test_names_are_sound_and_say_their_unit() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"understudy_[a-z_]+", metric.name) and metric.says.endswith(".")
        assert metric.name.endswith("_total") == (metric.kind == "counter")


def test_the_page_lists_them_all() -> None:
    listed = re.findall(r"^\| `(understudy_\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [metric.name for metric in METRICS]
