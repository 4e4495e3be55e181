"""Fixtures for all tests: real brokers on free ports, the recording TCP proxy, and where the large data is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before any test imports torch: see cloud_teacher/__init__.py
# Tile instructions (AMX) round otherwise, and trainings of a few steps on a few images then end elsewhere.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

# Test files import from here what is no fixture (tcp_tap); pytest's importlib mode adds no folder by itself.
sys.path.insert(0, str(Path(__file__).parent))

from tcp_tap import TcpTap

from demo import broker
from demo.broker import Broker, start_broker


@pytest.fixture
def free_port() -> int:
    return broker.free_port()


@pytest.fixture
def shared_dir() -> Path:
    """The folder with data sets and published weights: $UNDERSTUDY_SHARED, else ../shared beside the checkout."""
    default = Path(__file__).resolve().parent.parent.parent / "shared"
    folder = Path(os.environ.get("UNDERSTUDY_SHARED") or default)
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set UNDERSTUDY_SHARED to the folder that holds it")
    return folder


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """start_mosquitto(*configuration lines, port=0) -> a real mosquitto; all are stopped after the test."""
    if broker.mosquitto_path() is None:
        pytest.skip("mosquitto is not installed")
    started: list[Broker] = []

    def start(*options: str, port: int = 0) -> Broker:
        directory = tmp_path / f"mosquitto-{len(started)}"
        # Started by root it would become another user, who cannot read what lies in pytest's folders.
        started.append(start_broker(directory, port, kind="mosquitto", options=("user root", *options)))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Broker]) -> Broker:
    """A real mosquitto on a free port of the loopback interface, anonymous, speaking MQTT 5 and 3.1.1."""
    return start_mosquitto()


@pytest.fixture
def amqtt_broker(tmp_path: Path) -> Iterator[Broker]:
    """A real amqtt on a free port, speaking 3.1.1 only."""
    pytest.importorskip("amqtt", reason="amqtt is not installed")
    running = start_broker(tmp_path / "amqtt", kind="amqtt")
    yield running
    running.stop()


@pytest.fixture
def tcp_tap() -> Iterator[Callable[..., TcpTap]]:
    """tcp_tap(port, change=None) -> a recording proxy in front of that port; all are closed after the test."""
    opened: list[TcpTap] = []

    def open_tap(target_port: int, change: Any = None) -> TcpTap:
        opened.append(TcpTap(target_port, change))
        return opened[-1]

    yield open_tap
    for one in opened:
        one.close()
