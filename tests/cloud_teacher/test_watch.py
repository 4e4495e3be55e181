from __future__ import annotations

import io
import json
import threading
import time

import pytest

from cloud_teacher.broker_link import BrokerAddress, BrokerError, BrokerLink
from cloud_teacher.fleet import FleetView
from cloud_teacher.watch import Form, best_form, table, watch
from demo.broker import Broker
from transfer import wire
from transfer.wire import Status, Topics

TOPICS = Topics("understudy", "home", "edge-1")


def status(reason: str = "") -> bytes:
    return wire.encode(Status(device="edge-1", session=1, online=True, at_utc=1.0, phase="IDLE", reason=reason))


def watched(broker: Broker, form: Form, capsys: pytest.CaptureFixture[str]) -> str:
    """What is shown of one status."""
    address, stop = BrokerAddress("127.0.0.1", broker.port), threading.Event()
    thread = threading.Thread(target=watch, args=(address, Topics("understudy", "home"), form, stop))
    thread.start()
    device = BrokerLink(address)
    device.connect()
    give_up_s = time.monotonic() + 20
    while not device.publish(TOPICS.status, status(), timeout_s=10) and time.monotonic() < give_up_s:
        time.sleep(0.02)
    shown = ""
    while "edge-1" not in shown and time.monotonic() < give_up_s:
        time.sleep(0.02)
        shown += capsys.readouterr().out
    stop.set()
    thread.join()
    device.close()
    return shown


def test_json_lines(mosquitto: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(watched(mosquitto, "json", capsys).splitlines()[0])
    assert (told["type"], told["device"], told["phase"]) == ("status", "edge-1", "IDLE")


def test_plain_lines(mosquitto: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    assert watched(mosquitto, "lines", capsys).splitlines()[0] == "edge-1: IDLE, generation 0"


def test_without_a_broker_it_says_so(free_port: int) -> None:
    with pytest.raises(BrokerError, match="cannot reach"):
        watch(BrokerAddress("127.0.0.1", free_port), Topics("understudy", "home"), "lines", threading.Event())


def test_the_form_suits_the_output() -> None:
    assert best_form(json=True) == "json"
    assert best_form(json=False) == "lines"  # a test's output is no terminal


def test_the_table_shows_what_devices_write_as_it_is() -> None:
    rich_console = pytest.importorskip("rich.console", reason="rich is not installed")
    view = FleetView()
    view.take(TOPICS.status, status("[red]not markup[/red]"))
    console = rich_console.Console(width=200, record=True, file=io.StringIO())
    console.print(table(view))
    assert "[red]not markup[/red]" in console.export_text()
