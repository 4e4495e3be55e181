"""Torch stays out of the daemon: 190 MiB less, and no illegal instruction in the service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "av", "sklearn", "rich", "scipy", "matplotlib", "flatbuffers", "amqtt")
SELDOM = ("asyncio", "difflib", "email", "http", "multiprocessing", "tarfile", "unittest", "xml")
"""Parts of the standard library that a daemon needs once in a while, or never, and that cost it memory for months."""


def loaded_by(root: Path, code: str) -> set[str]:
    """The top-level modules of a fresh process after `code`."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    ran = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "modules",
    ["agent.daemon, agent.workshop, agent.__main__", "agent.trainer.__main__, agent.trainer.head_tier"],
    ids=["daemon", "head tier"],
)
def test_the_daemon_and_the_head_tier_never_import_torch(root: Path, modules: str) -> None:
    loaded = loaded_by(root, f"import {modules}")
    assert "agent" in loaded and "numpy" in loaded
    assert "torch" not in loaded


def test_the_daemon_imports_nothing_else_that_is_heavy_or_optional(root: Path) -> None:
    loaded = loaded_by(root, "import agent.daemon, agent.workshop, agent.__main__")
    assert not loaded & set(HEAVY)


def test_the_daemon_imports_nothing_that_it_seldom_needs(root: Path) -> None:
    loaded = loaded_by(root, "import agent.daemon, agent.workshop, agent.__main__, agent.adapters.mqtt, yaml")
    assert "paho" in loaded and not loaded & set(SELDOM)


def test_the_daemon_needs_no_yaml_and_no_optional_library(root: Path) -> None:
    """yaml is needed to read a configuration file, not to run from the environment."""
    blocked = ("yaml", "torch", "av", "sklearn", "rich", "inotify_simple", "amqtt")
    code = f"import sys\nfor name in {blocked}: sys.modules[name] = None\nimport agent.daemon, agent.__main__"
    assert "agent" in loaded_by(root, code)


def test_serving_a_model_does_not_bring_torch_in(root: Path) -> None:
    loaded = loaded_by(
        root, "from agent.adapters import inference, judge, journal; journal.open_journal('info', 'json')"
    )
    assert not loaded & {"torch", "rich"}
