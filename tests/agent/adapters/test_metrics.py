"""Metrics as a file and on a port: whole, on this machine only, and gone with the daemon."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.metrics import MetricsFile, MetricsPort
from agent.assembly import open_metrics
from agent.config import Log

FIGURES = "understudy_frames_total 3\n"


class Journal:
    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, event: str, **fields: Any) -> None:
        self.said.append(event)

    error = warning


def get(port: int, path: str = "/metrics") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def metric_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("metrics")]


# ------------------------------------------------------------------------------------------------ the file


@pytest.mark.spec("18.2")
def test_the_file_is_written_again_and_again_and_goes_with_the_daemon(tmp_path: Path) -> None:
    path, written = tmp_path / "understudy.prom", threading.Semaphore(0)
    count = 0

    def text() -> str:
        nonlocal count
        count += 1
        if count > 1:  # the one before is there
            assert path.read_text() == f"figures {count - 1}\n"
        written.release()
        return f"figures {count}\n"

    file = MetricsFile(path, text, Journal(), every_s=0.01)  # type: ignore[arg-type]
    for _ in range(3):
        assert written.acquire(timeout=10)
    file.close()
    assert list(tmp_path.iterdir()) == [] and metric_threads() == []


def test_a_folder_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    journal, tried = Journal(), threading.Semaphore(0)

    def text() -> str:
        tried.release()
        return FIGURES

    file = MetricsFile(tmp_path / "none" / "m.prom", text, journal, every_s=0.01)  # type: ignore[arg-type]
    for _ in range(4):
        assert tried.acquire(timeout=10)
    file.close()
    assert journal.said == ["metrics_not_written"]


# ------------------------------------------------------------------------------------------------ the port


@pytest.fixture
def port() -> Iterator[MetricsPort]:
    opened = MetricsPort(0, lambda: FIGURES)
    yield opened
    opened.close()
    assert metric_threads() == []


@pytest.mark.spec("18.2")
def test_the_port_answers_on_this_machine_only(port: MetricsPort) -> None:
    assert get(port.port) == (200, FIGURES)
    assert get(port.port, "/metrics?x=1")[0] == 200 and get(port.port, "/etc/passwd")[0] == 404
    others = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    for address in {address for address in others if not str(address).startswith("127.")}:
        with pytest.raises(OSError):
            socket.create_connection((str(address), port.port), timeout=5)


def test_a_reader_that_hangs_up_or_talks_nonsense_does_no_harm(port: MetricsPort) -> None:
    for sent in (b"", b"GET", b"\x00\xff\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port.port), timeout=5) as connection:
            connection.sendall(sent)
    assert get(port.port)[0] == 200


def test_a_figure_that_fails_is_the_readers_to_see() -> None:
    def text() -> str:
        raise RuntimeError("no figures")

    port = MetricsPort(0, text)
    try:
        status, said = get(port.port)
        assert status == 500 and "no figures" in said
    finally:
        port.close()


# ------------------------------------------------------------------------------------------------ as configured


@pytest.mark.spec("18.2")
def test_what_is_off_costs_nothing() -> None:
    assert open_metrics(Log(), dict, Journal()) == [] and metric_threads() == []  # type: ignore[arg-type]


def test_a_port_that_is_taken_is_said_and_the_daemon_goes_on(port: MetricsPort, tmp_path: Path) -> None:
    journal = Journal()
    log = Log(metrics_port=port.port, metrics_file=str(tmp_path / "m.prom"))
    opened = open_metrics(log, dict, journal)  # type: ignore[arg-type]
    assert "metrics_port_not_open" in journal.said and len(opened) == 1
    for one in opened:
        one.close()
