"""Where the daemon looks at the time of day, which may jump by years: only where a date is what is wanted."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

AGENT = Path(__file__).resolve().parents[2] / "agent"
OF_THE_DAY = {"time", "time_ns", "gmtime", "localtime", "now", "utcnow", "today", "CLOCK_REALTIME"}

ALLOWED = {
    "adapters/intake.py": "how old a file is, by the clock that stamped it; the date on a note for a person",
    "adapters/mqtt_session.py": "a certificate is valid by the date",
    "adapters/recorder.py": "the date on samples and in the log",
    "adapters/resources.py": "windows of the day; whether the clock was ever set",
    "adapters/watcher.py": "how old a file is, by the clock that stamped it",
    "announcer.py": "the date on messages",
    "daemon.py": "handed to what puts a date on judgements",
    "doctor/broker.py": "a certificate is valid by the date",
    "doctor/machine.py": "says what the clock shows",
    "network.py": "handed to what judges expiry",
    "offline.py": "an id that no other order has",
    "status_page.py": "when a model was learned, for a person",
    "workshop.py": "the date on a judgement",
}
"""Anything new here has to be no deadline, backoff, timeout, interval or quota."""


def looks(path: Path) -> set[str]:
    """The clocks of the day that a source names: time.time, datetime.now and the like."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("time", "datetime", "date") and node.attr in OF_THE_DAY:
                found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {f"time.{name.name}" for name in node.names if name.name in OF_THE_DAY}
    return found


@pytest.mark.spec("8.1")
def test_only_what_wants_a_date_looks_at_the_time_of_day() -> None:
    sources = {path.relative_to(AGENT).as_posix(): path for path in sorted(AGENT.rglob("*.py"))}
    looking = {name: found for name, path in sources.items() if (found := looks(path))}
    assert {name: found for name, found in looking.items() if name not in ALLOWED} == {}
    assert not [name for name in looking if name.startswith("core/")]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time\nuntil = time.time() + 5", {"time.time"}),
        ("from time import time\nuntil = time() + 5", {"time.time"}),
        ("from datetime import datetime\nnow = datetime.now()", {"datetime.now"}),
        ("import time\nuntil = time.monotonic() + 5; time.sleep(1)", set()),
        ("class A:\n    def now(self): return self.time", set()),
    ],
)
def test_the_search_finds_what_it_is_for(tmp_path: Path, source: str, found: set[str]) -> None:
    path = tmp_path / "source.py"
    path.write_text(source)
    assert looks(path) == found
