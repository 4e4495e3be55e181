"""The link against real brokers: mosquitto (MQTT 5) and amqtt (3.1.1), and a TCP proxy where the line must break."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mqtt_packets
import msgspec
import paho.mqtt.client as paho
import pytest
from certificates import make_certificate
from paho.mqtt.enums import CallbackAPIVersion
from tcp_tap import TcpTap

from agent.adapters.egress import EgressDenied, EgressGate, Ledger, Mode
from agent.adapters.mqtt import Denied, Down, Link, LinkConfig, Received, TooLarge, Up
from agent.adapters.mqtt_session import WINDOW
from agent.adapters.outbox import Outbox
from agent.adapters.outgoing import STORED_PER_S
from demo.broker import Broker
from transfer import wire

TOPICS = wire.Topics("understudy", "home", "cam-1")
WAIT_S = 15.0
SECRET = b"pixels that must not leave" * 40


class Seen(list[Any]):
    """A list that another thread appends to, and that can be waited on."""

    def __init__(self) -> None:
        super().__init__()
        self._news = threading.Condition()

    def append(self, item: Any) -> None:
        with self._news:
            super().append(item)
            self._news.notify_all()

    def wait(self, wanted: Callable[[Any], bool], count: int = 1) -> list[Any]:
        """The items that are `wanted`, once there are `count` of them."""

        def enough() -> bool:
            return sum(map(wanted, self)) >= count

        with self._news:
            assert self._news.wait_for(enough, WAIT_S), f"waited in vain; seen: {list(self)}"
            return [item for item in self if wanted(item)]

    def wait_type(self, kind: type, count: int = 1) -> list[Any]:
        return self.wait(lambda item: isinstance(item, kind), count)


class Peer:
    """An operator or worker: a plain MQTT client on another thread that keeps (topic, payload) of what it hears."""

    def __init__(self, port: int, listen: str = "#") -> None:
        self.heard = Seen()
        subscribed = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self.client.on_connect = lambda *_: self.client.subscribe(listen, qos=1) and None
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _c, _u, message: self.heard.append((message.topic, bytes(message.payload)))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(WAIT_S)

    def say(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, qos=1).wait_for_publish(WAIT_S)

    def wait(self, topic: str, count: int = 1) -> list[bytes]:
        return [payload for _, payload in self.heard.wait(lambda item: item[0] == topic, count)]

    def statuses(self, wanted: Callable[[wire.Status], bool], count: int = 1) -> list[wire.Status]:
        def matches(item: tuple[str, bytes]) -> bool:
            return item[0] == TOPICS.status and wanted(wire.decode(item[1], wire.Status))

        return [wire.decode(payload, wire.Status) for _, payload in self.heard.wait(matches, count)]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def a_status(online: bool = True, reason: str = "") -> wire.Status:
    return wire.Status(device="cam-1", session=7, online=online, at_utc=1.0, reason=reason)


def an_event(seq: int, padding: int = 0) -> wire.Event:
    return wire.Event(device="cam-1", session=7, seq=seq, at_utc=1.0, kind="test", detail={"padding": "x" * padding})


def a_prediction() -> wire.Prediction:
    return wire.Prediction(
        device="cam-1", sample_id="0" * 64, origin="secret.png", at_utc=1.0, label="cat", confidence=0.5, novelty=1.0,
        novel=False, generation=1,
    )  # fmt: skip


def a_request(image: bytes = SECRET) -> wire.ActivationRequest:
    return wire.ActivationRequest(
        request_id="r1", reply_topic=TOPICS.teacher_reply, expires_utc=1e10, sample_ids=("0" * 64,), images=(image,)
    )


class Device:
    """A link with its outbox and gate, and the events it has reported."""

    def __init__(
        self, folder: Path, port: int, mode: Mode = "local", consent: bool = False, share: bool = False, **config: Any
    ) -> None:
        self.events = Seen()
        self.ledger = Ledger()
        self.outbox = Outbox(folder / "outbox.db")
        self.status = a_status()
        self.link = Link(
            LinkConfig(host="127.0.0.1", port=port, client_id="cam-1", **{"keepalive_s": 30, **config}),
            TOPICS,
            EgressGate(mode, consent, share, self.ledger),
            self.outbox,
            will=a_status(online=False, reason="connection lost"),
            current_status=lambda: self.status,
            on_event=self.events.append,
            backoff_base_s=0.05,
            backoff_cap_s=0.2,
        )
        self.link.start()

    def up(self, count: int = 1) -> Up:
        last: Up = self.events.wait_type(Up, count)[-1]
        return last


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    devices: list[Device] = []

    def make(port: int, **options: Any) -> Device:
        devices.append(Device(tmp_path, port, **options))
        return devices[-1]

    yield make
    for one in devices:
        one.link.close(a_status(online=False, reason="end of test"))


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def make(port: int, listen: str = "#") -> Peer:
        peers.append(Peer(port, listen))
        return peers[-1]

    yield make
    for one in peers:
        one.close()


@pytest.fixture(params=["mosquitto", "amqtt_broker"])
def either_broker(request: pytest.FixtureRequest) -> Broker:
    broker: Broker = request.getfixturevalue(request.param)
    return broker


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------- both versions


def test_a_round_trip_in_the_best_version_the_broker_speaks(
    either_broker: Broker, device: Callable[..., Device], peer: Callable[..., Peer]
) -> None:
    operator = peer(either_broker.port)
    cam = device(either_broker.port, mode="upload", consent=True, share=True)
    assert cam.up().protocol == cam.link.protocol == ("5" if either_broker.kind == "mosquitto" else "3.1.1")
    assert operator.statuses(lambda status: status.online) == [a_status()]

    assert cam.link.publish(an_event(1), TOPICS.event)
    assert cam.link.publish(a_prediction(), TOPICS.prediction)
    assert cam.link.publish(a_request(), TOPICS.teacher_request, durable_key="r1", critical=True)
    assert wire.decode(operator.wait(TOPICS.event)[0], wire.Event) == an_event(1)
    assert wire.decode(operator.wait(TOPICS.prediction)[0], wire.Prediction) == a_prediction()
    assert wire.decode(operator.wait(TOPICS.teacher_request)[0], wire.ActivationRequest) == a_request()

    inbound = (TOPICS.trigger, TOPICS.command, TOPICS.teacher_reply)
    for count, topic in enumerate(inbound, start=1):
        operator.say(topic, topic.encode())
        cam.events.wait_type(Received, count)
    assert cam.events == [cam.up(), *(Received(topic, topic.encode()) for topic in inbound)], "echoes stay inside"

    cam.link.close(a_status(online=False, reason="stopped"))
    assert operator.statuses(lambda status: not status.online)[-1].reason == "stopped"
    assert not cam.link.alive()
    assert [event for event in cam.events if isinstance(event, Down)] == []


def test_messages_for_a_device_that_is_away_wait_for_it(
    mosquitto: Broker, device: Callable[..., Device], peer: Callable[..., Peer]
) -> None:
    """The broker keeps our session: a trigger published while we restart is not lost. (amqtt forgets the nameless.)"""
    operator = peer(mosquitto.port)
    first = device(mosquitto.port)
    first.up()
    first.link.close(a_status(online=False))
    operator.say(TOPICS.trigger, b"learn this")
    second = device(mosquitto.port)
    assert second.events.wait_type(Received) == [Received(TOPICS.trigger, b"learn this")]


@pytest.mark.spec("7.1")
def test_the_broker_keeps_a_message_until_it_is_settled(
    mosquitto: Broker, device: Callable[..., Device], peer: Callable[..., Peer]
) -> None:
    """Power is cut between the arrival of the second message and what it would have led to."""
    operator = peer(mosquitto.port)
    first = device(mosquitto.port)
    first.up()
    operator.say(TOPICS.trigger, b"learn this")
    operator.say(TOPICS.trigger, b"learn that")
    settled, lost = first.events.wait_type(Received, 2)
    first.link.settle(settled.receipt)
    operator.say(TOPICS.echo, b"{}")
    first.link.close(a_status(online=False))
    second = device(mosquitto.port)
    assert second.events.wait_type(Received) == [lost]
    second.link.settle(settled.receipt)  # of a connection that is over: it says nothing about this one
    second.link.close(a_status(online=False))
    third = device(mosquitto.port)
    (again,) = third.events.wait_type(Received)
    third.link.settle(again.receipt)
    third.link.close(a_status(online=False))
    operator.say(TOPICS.trigger, b"learn more")
    assert device(mosquitto.port).events.wait_type(Received) == [Received(TOPICS.trigger, b"learn more")]


@pytest.mark.spec("1.4")
def test_messages_beyond_the_window_come_when_those_before_are_settled(
    either_broker: Broker, device: Callable[..., Device], peer: Callable[..., Peer]
) -> None:
    operator = peer(either_broker.port, "nothing")
    cam = device(either_broker.port)
    cam.up()
    for number in range(2 * WINDOW):
        operator.say(TOPICS.teacher_reply, b"%d" % number)
    settled = 0
    while settled < 2 * WINDOW:
        arrived = cam.events.wait_type(Received, settled + 1)
        for received in arrived[settled:]:
            cam.link.settle(received.receipt)
        settled = len(arrived)
    assert [int(received.payload) for received in cam.events.wait_type(Received)] == list(range(2 * WINDOW))


@pytest.mark.spec("1.4")
def test_rows_wait_for_the_application_or_the_puback(
    mosquitto: Broker, device: Callable[..., Device], peer: Callable[..., Peer]
) -> None:
    operator = peer(mosquitto.port)
    cam = device(mosquitto.port)
    cam.up()
    assert cam.link.publish(an_event(1), TOPICS.event, durable_key="until puback", until="puback")
    assert cam.link.publish(an_event(2), TOPICS.event, durable_key="until acknowledged")
    operator.wait(TOPICS.event, 2)
    eventually(lambda: cam.outbox.size()[0] == 1)
    assert [row.key for row in cam.outbox.pending()] == ["until acknowledged"]
    cam.link.acknowledged("until acknowledged")
    assert cam.outbox.size() == (0, 0)


@pytest.mark.spec("7.4")
def test_what_the_disk_does_not_take_goes_out_at_once(
    mosquitto: Broker, device: Callable[..., Device], peer: Callable[..., Peer], tmp_path: Path
) -> None:
    """Kept nowhere, it is lost with the link; held back for the disk's sake, it would be lost for sure."""
    operator = peer(mosquitto.port)
    cam = device(mosquitto.port)
    cam.up()

    def taken_away() -> bool:
        """The link's thread may open it anew in between."""
        cam.outbox.close()
        for file in tmp_path.glob("outbox.db*"):
            file.unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):
            (tmp_path / "outbox.db").mkdir()
            return True
        return False

    eventually(taken_away)
    assert cam.link.publish(an_event(1), TOPICS.event, durable_key="k", until="puback")
    operator.wait(TOPICS.event, 1)


def test_the_same_key_again_is_sent_again(
    mosquitto: Broker, device: Callable[..., Device], peer: Callable[..., Peer]
) -> None:
    operator = peer(mosquitto.port)
    cam = device(mosquitto.port)
    cam.up()
    for seq in (1, 2):
        assert cam.link.publish(an_event(seq), TOPICS.event, durable_key="k")
        operator.wait(TOPICS.event, seq)
    assert [wire.decode(payload, wire.Event).seq for payload in operator.wait(TOPICS.event, 2)] == [1, 2]
    assert cam.outbox.size()[0] == 1


# ------------------------------------------------------------------------------------------------- losing the broker


@pytest.mark.spec("1.1")
def test_the_outbox_drains_exactly_once_per_key_after_the_broker_returns(
    start_mosquitto: Callable[..., Broker],
    device: Callable[..., Device],
    peer: Callable[..., Peer],
    tcp_tap: Callable[[int], TcpTap],
) -> None:
    broker = start_mosquitto()
    tap = tcp_tap(broker.port)
    cam = device(tap.port)
    cam.up()
    broker.process.kill()
    broker.process.wait()
    cam.events.wait_type(Down)
    eventually(lambda: cam.link.protocol is None)
    assert not cam.link.publish(an_event(0), TOPICS.event), "live messages are dropped while the link is down"
    for seq in range(1, 61):  # 51 to 60 replace 1 to 10, under the same keys
        assert cam.link.publish(an_event(seq), TOPICS.event, durable_key=f"event-{seq % 50}", until="puback")

    returned = start_mosquitto()
    operator = peer(returned.port, TOPICS.event)
    tap.target_port = returned.port  # now the device can reach it
    cam.up(2)
    eventually(lambda: cam.outbox.size()[0] == 0)
    assert cam.link.publish(an_event(99), TOPICS.event)
    operator.heard.wait(lambda item: wire.decode(item[1], wire.Event).seq == 99)
    heard = [wire.decode(payload, wire.Event).seq for _, payload in operator.heard]
    assert heard == [*range(11, 61), 99], "in order, none twice"


@pytest.mark.spec("2.3")
def test_a_backlog_comes_at_a_bounded_pace_with_the_report_first(
    mosquitto: Broker,
    device: Callable[..., Device],
    peer: Callable[..., Peer],
    tcp_tap: Callable[..., TcpTap],
    free_port: int,
) -> None:
    """Measured at the broker. A slow machine makes it slower, never faster."""
    operator = peer(mosquitto.port)
    tap = tcp_tap(free_port)  # nobody there
    cam = device(tap.port, mode="upload", consent=True, share=True)
    for seq in range(90):
        assert cam.link.publish(an_event(seq), TOPICS.event, durable_key=f"event-{seq}", until="puback")
    report = wire.JobUpdate(
        device="cam-1", session=7, at_utc=1.0, trigger_id="t", categories=("otter",), state="SUCCEEDED"
    )
    assert cam.link.publish(report, TOPICS.job, durable_key="job", until="puback", critical=True)
    tap.target_port = mosquitto.port
    operator.wait(TOPICS.event)
    began_s = time.monotonic()
    assert cam.link.publish(a_prediction(), TOPICS.prediction), "what is new does not wait behind it"
    operator.wait(TOPICS.event, 90)
    assert time.monotonic() - began_s > (90 - 20 - 20) / STORED_PER_S
    topics = [topic for topic, _ in operator.heard]
    assert topics.index(TOPICS.job) < topics.index(TOPICS.event)
    assert topics.index(TOPICS.prediction) < len(topics) - 20
    seqs = [wire.decode(payload, wire.Event).seq for payload in operator.wait(TOPICS.event, 90)]
    assert seqs == list(range(90))


@pytest.mark.spec("1.1")
def test_every_durable_row_arrives_whatever_connections_are_lost(
    mosquitto: Broker,
    device: Callable[..., Device],
    peer: Callable[..., Peer],
    tcp_tap: Callable[[int], TcpTap],
) -> None:
    operator = peer(mosquitto.port, TOPICS.event)
    tap = tcp_tap(mosquitto.port)
    cam = device(tap.port)
    for cuts in range(1, 4):
        cam.up(cuts)
        for seq in range(40):
            assert cam.link.publish(an_event(cuts * 100 + seq, 2_000), TOPICS.event, durable_key=f"{cuts}-{seq}")
        tap.cut()
    cam.up(4)
    wanted = {cuts * 100 + seq for cuts in range(1, 4) for seq in range(40)}
    eventually(lambda: wanted <= {wire.decode(payload, wire.Event).seq for _, payload in list(operator.heard)})
    assert cam.outbox.size()[0] == 120, "nobody has acknowledged them"


def test_a_message_on_which_the_broker_hangs_up_keeps_no_other_from_arriving(
    mosquitto: Broker, device: Callable[..., Device], peer: Callable[..., Peer], tcp_tap: Callable[..., TcpTap]
) -> None:
    """As some do on a topic they do not allow, instead of answering."""

    def hang_up(_: str, packet: bytes) -> list[bytes]:
        if b'"kind":"poison"' in packet:
            raise ConnectionResetError
        return [packet]

    operator = peer(mosquitto.port)
    cam = device(tcp_tap(mosquitto.port, hang_up).port)
    poison = msgspec.structs.replace(an_event(0), kind="poison")
    assert cam.link.publish(poison, TOPICS.event, durable_key="poison", until="puback")
    for seq in range(1, 4):
        assert cam.link.publish(an_event(seq), TOPICS.event, durable_key=str(seq), until="puback")
    denied = cam.events.wait_type(Denied)[0]
    assert denied.key == "poison" and "hangs up" in denied.reason
    # Any of them may come twice: a connection was lost.
    eventually(lambda: {wire.decode(sent, wire.Event).seq for sent in operator.wait(TOPICS.event, 1)} == {1, 2, 3})
    eventually(lambda: [row.key for row in cam.outbox.pending()] == ["poison"])


@pytest.mark.spec("1.1")
def test_a_restarted_agent_sends_what_an_earlier_one_stored(
    mosquitto: Broker, device: Callable[..., Device], peer: Callable[..., Peer], free_port: int
) -> None:
    operator = peer(mosquitto.port)
    before = device(free_port)
    assert before.link.publish(an_event(1), TOPICS.event, durable_key="k", until="puback")
    before.link.close(a_status(online=False))
    before.outbox.close()
    after = device(mosquitto.port)
    assert wire.decode(operator.wait(TOPICS.event)[0], wire.Event).seq == 1
    eventually(lambda: after.outbox.size()[0] == 0)


def test_the_will_tells_of_a_cut_line_and_the_next_birth_corrects_it(
    either_broker: Broker,
    device: Callable[..., Device],
    peer: Callable[..., Peer],
    tcp_tap: Callable[[int], TcpTap],
) -> None:
    operator = peer(either_broker.port)
    tap = tcp_tap(either_broker.port)
    cam = device(tap.port)
    cam.up()
    operator.statuses(lambda status: status.online)
    cam.status = a_status(reason="second birth")
    tap.cut()
    (will,) = operator.statuses(lambda status: not status.online)
    assert (will.reason, will.session) == ("connection lost", 7)
    operator.statuses(lambda status: status.reason == "second birth")
    late = peer(either_broker.port)  # it sees what is retained
    assert late.statuses(lambda status: True)[-1].reason == "second birth"


def test_connect_errors_are_reported_once_for_each_reason(
    start_mosquitto: Callable[..., Broker], device: Callable[..., Device], tmp_path: Path, free_port: int
) -> None:
    cam = device(free_port)
    (down,) = cam.events.wait_type(Down)
    assert str(free_port) in down.reason and cam.link.why_down == down.reason
    time.sleep(0.5)  # some ten attempts
    assert list(cam.events) == [down]
    accounts = tmp_path / "accounts"
    accounts.write_text("somebody:else\n")
    start_mosquitto("allow_anonymous false", f"password_file {accounts}", port=free_port)
    refused = cam.events.wait_type(Down, 2)[-1]
    assert "authori" in refused.reason.lower()
    time.sleep(0.5)
    assert list(cam.events) == [down, refused]
    assert not cam.link.publish(an_event(1), TOPICS.event)


def test_a_broker_that_turns_into_an_older_one_is_followed(
    start_mosquitto: Callable[..., Broker], device: Callable[..., Device], tmp_path: Path
) -> None:
    from demo.broker import start_broker

    broker = start_mosquitto()
    cam = device(broker.port)
    assert cam.up().protocol == "5"
    broker.stop()
    older = start_broker(tmp_path / "older", broker.port, kind="amqtt")
    try:
        assert cam.up(2).protocol == "3.1.1"
    finally:
        older.stop()


def test_garbage_instead_of_a_broker_does_not_stop_the_link(
    device: Callable[..., Device], free_port: int, start_mosquitto: Callable[..., Broker]
) -> None:
    answers = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\xff\xff\xff\xff\xff",
        b"\x20\x03\x00\x00\x7f",
        b"\x30\x00",
        b"",
    ]
    with socket.create_server(("127.0.0.1", free_port)) as listener:
        cam = device(free_port)
        for answer in answers * 2:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)
    assert cam.link.alive()
    start_mosquitto(port=free_port)
    assert cam.up().protocol in ("5", "3.1.1")


# ------------------------------------------------------------------------------------------------- a dead link


@pytest.mark.spec("3.1")
def test_a_stalled_line_is_noticed_and_rebuilt(
    mosquitto: Broker,
    device: Callable[..., Device],
    tcp_tap: Callable[[int], TcpTap],
) -> None:
    tap = tcp_tap(mosquitto.port)
    cam = device(tap.port, keepalive_s=1)
    cam.up()
    tap.stall()
    assert cam.link.publish(an_event(1), TOPICS.event, durable_key="k", until="puback"), "callers are not held up"
    cam.events.wait_type(Down)
    tap.resume()
    cam.up(2)
    eventually(lambda: cam.outbox.size()[0] == 0)


@pytest.mark.spec("3.1")
def test_a_broker_that_answers_pings_but_routes_nothing_is_left(
    start_mosquitto: Callable[..., Broker],
    device: Callable[..., Device],
    tcp_tap: Callable[[int], TcpTap],
    tmp_path: Path,
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite #\n")
    broker = start_mosquitto(f"acl_file {rules}")
    tap = tcp_tap(broker.port)
    cam = device(tap.port, keepalive_s=1)
    eventually(lambda: b'"type":"echo"' in tap.downstream)
    rules.write_text("topic write #\n")
    broker.process.send_signal(signal.SIGHUP)
    (down,) = cam.events.wait_type(Down)
    assert "nothing came back for 2 s" in down.reason
    cam.up(2)
    # From now on no echo comes at all: that is an ACL, to be said once, and no reason to connect over and over.
    (denied,) = cam.events.wait_type(Denied)
    assert denied.topic == TOPICS.echo
    assert cam.link.protocol == "5"
    assert len([event for event in cam.events if isinstance(event, Down)]) == 1


@pytest.mark.spec("3.1")
def test_a_broker_that_routes_echoes_but_acknowledges_nothing_is_left(
    mosquitto: Broker, device: Callable[..., Device], tcp_tap: Callable[..., TcpTap]
) -> None:
    """The window would stay full for ever."""
    mute = threading.Event()
    tap = tcp_tap(
        mosquitto.port, lambda _, packet: [] if mute.is_set() and mqtt_packets.kind(packet) == 4 else [packet]
    )
    cam = device(tap.port, keepalive_s=1)
    cam.up()
    mute.set()
    for seq in range(25):
        assert cam.link.publish(an_event(seq), TOPICS.event, durable_key=str(seq), until="puback")
    (down,) = cam.events.wait_type(Down)
    assert "nothing was acknowledged for 2 s" in down.reason
    mute.clear()
    cam.up(2)
    eventually(lambda: cam.outbox.size()[0] == 0)


# ------------------------------------------------------------------------------------------------- limits


@pytest.mark.spec("15.1")
def test_what_is_too_large_never_reaches_the_socket(
    start_mosquitto: Callable[..., Broker], device: Callable[..., Device], tcp_tap: Callable[[int], TcpTap]
) -> None:
    broker = start_mosquitto("max_packet_size 3000")
    tap = tcp_tap(broker.port)
    cam = device(tap.port)
    assert cam.link.limit_bytes == 120_000
    assert cam.link.publish(an_event(1, 2_900), TOPICS.event, durable_key="stored before the limit is known")
    cam.up()
    (early,) = cam.events.wait_type(TooLarge)
    limit = cam.link.limit_bytes
    assert 2_000 < limit < 3_000
    assert (early.key, early.limit_bytes) == ("stored before the limit is known", limit)
    assert early.size_bytes > limit
    assert cam.outbox.size()[0] == 0
    assert not cam.link.publish(an_event(2, 2_900), TOPICS.event)
    assert cam.events.wait_type(TooLarge, 2)[-1].topic == TOPICS.event
    fits = limit - len(wire.encode(an_event(3)))
    assert cam.link.publish(an_event(3, fits), TOPICS.event, durable_key="just fits", until="puback")
    eventually(lambda: cam.outbox.size()[0] == 0)
    assert tap.upstream.count(b'"padding":"xxx') == 1
    assert [event for event in cam.events if isinstance(event, Down)] == []


@pytest.mark.spec("15.1")
def test_incoming_messages_are_bounded(
    either_broker: Broker, device: Callable[..., Device], peer: Callable[..., Peer]
) -> None:
    operator = peer(either_broker.port, "nothing")
    cam = device(either_broker.port, max_message_bytes=1_000)
    cam.up()
    operator.say(TOPICS.teacher_reply, bytes(1_001))
    operator.say(TOPICS.teacher_reply, bytes(1_000))
    assert cam.events.wait_type(Received) == [Received(TOPICS.teacher_reply, bytes(1_000))]
    assert cam.events.wait_type(TooLarge) == [TooLarge(TOPICS.teacher_reply, 1_001, 1_000)]


@pytest.mark.spec("1.4")
def test_at_most_twenty_messages_are_unacknowledged(
    mosquitto: Broker, device: Callable[..., Device], tcp_tap: Callable[[int], TcpTap]
) -> None:
    tap = tcp_tap(mosquitto.port)
    cam = device(tap.port)
    cam.up()
    eventually(lambda: b'"type":"echo"' in tap.downstream)  # and so all that was sent before is acknowledged
    # Will, status and echo: counted a moment after they are sent, which may be after they have come back.
    eventually(lambda: cam.ledger.snapshot()["operational"]["allowed_messages"] >= 3)
    tap.stall()
    sent_before = cam.ledger.snapshot()["operational"]["allowed_messages"]
    for seq in range(60):
        assert cam.link.publish(an_event(seq), TOPICS.event, durable_key=str(seq), until="puback")
    eventually(lambda: cam.ledger.snapshot()["operational"]["allowed_messages"] >= sent_before + 20)
    time.sleep(0.2)
    assert cam.ledger.snapshot()["operational"]["allowed_messages"] <= sent_before + 20
    assert cam.outbox.size()[0] == 60
    tap.resume()
    eventually(lambda: cam.outbox.size()[0] == 0)


def test_live_messages_do_not_pile_up_without_end(
    mosquitto: Broker, device: Callable[..., Device], tcp_tap: Callable[[int], TcpTap]
) -> None:
    tap = tcp_tap(mosquitto.port)
    cam = device(tap.port)
    cam.up()
    tap.stall()
    accepted = [cam.link.publish(an_event(seq), TOPICS.event) for seq in range(400)]
    assert accepted[0]
    assert sum(accepted) <= 200 + 20


# ------------------------------------------------------------------------------------------------- what may leave


@pytest.mark.parametrize("mode", ["local", "teacher_download"])
def test_a_denied_message_leaves_no_byte_at_the_socket(
    mosquitto: Broker, device: Callable[..., Device], tcp_tap: Callable[[int], TcpTap], mode: Mode
) -> None:
    tap = tcp_tap(mosquitto.port)
    cam = device(tap.port, mode=mode)
    cam.up()
    for message, topic in ((a_request(), TOPICS.teacher_request), (a_prediction(), TOPICS.prediction)):
        with pytest.raises(EgressDenied):
            cam.link.publish(message, topic)
        with pytest.raises(EgressDenied):
            cam.link.publish(message, topic, durable_key="k")
    assert cam.outbox.size() == (0, 0)
    assert cam.link.publish(an_event(1), TOPICS.event, durable_key="marker", until="puback")
    eventually(lambda: cam.outbox.size()[0] == 0)
    assert b"marker" not in tap.upstream
    assert TOPICS.event.encode() in tap.upstream
    assert SECRET[:20] not in tap.upstream
    assert b"secret.png" not in tap.upstream
    counts = cam.ledger.snapshot()
    assert (counts["image"]["allowed_messages"], counts["image"]["denied_messages"]) == (0, 2)
    assert (counts["derived"]["allowed_messages"], counts["derived"]["denied_messages"]) == (0, 2)


def test_stored_images_do_not_leave_once_the_settings_are_stricter(
    mosquitto: Broker, device: Callable[..., Device], tcp_tap: Callable[[int], TcpTap], free_port: int
) -> None:
    before = device(free_port, mode="upload", consent=True)
    assert before.link.publish(a_request(), TOPICS.teacher_request, durable_key="r1")
    before.link.close(a_status(online=False))
    before.outbox.close()
    tap = tcp_tap(mosquitto.port)
    after = device(tap.port, mode="teacher_download", consent=True)
    after.up()
    eventually(lambda: after.outbox.size()[0] == 0)
    assert after.ledger.snapshot()["image"]["denied_messages"] == 1
    after.link.close(a_status(online=False, reason="marker"))
    assert b"marker" in tap.upstream
    assert SECRET[:20] not in tap.upstream


def test_the_ledger_agrees_with_the_socket(
    mosquitto: Broker, device: Callable[..., Device], tcp_tap: Callable[[int], TcpTap]
) -> None:
    tap = tcp_tap(mosquitto.port)
    cam = device(tap.port, mode="upload", consent=True)
    cam.up()
    request = a_request(bytes(50_000) + SECRET)
    assert cam.link.publish(request, TOPICS.teacher_request, durable_key="r1", until="puback")
    eventually(lambda: cam.outbox.size()[0] == 0)
    image = cam.ledger.snapshot()["image"]
    assert image["allowed_messages"] == 1
    assert image["allowed_bytes"] == len(wire.encode(request))
    operational = cam.ledger.snapshot()["operational"]["allowed_bytes"]
    overhead = len(tap.upstream) - image["allowed_bytes"] - operational
    assert 0 < overhead < 1_000, "topics and packet headers"


def test_topics_with_wildcards_are_refused(device: Callable[..., Device], free_port: int) -> None:
    cam = device(free_port)
    for topic in ("", "a/+/b", "a/#"):
        with pytest.raises(ValueError, match="not a topic"):
            cam.link.publish(an_event(1), topic)


# ------------------------------------------------------------------------------------------------- refusals, TLS


def test_a_publish_the_broker_forbids_is_reported_and_kept(
    start_mosquitto: Callable[..., Broker], device: Callable[..., Device], tmp_path: Path
) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic read #\ntopic write {TOPICS.status}\ntopic write {TOPICS.echo}\n")
    cam = device(start_mosquitto(f"acl_file {rules}").port)
    cam.up()
    assert cam.link.publish(an_event(1), TOPICS.event, durable_key="k", until="puback")
    (denied,) = cam.events.wait_type(Denied)
    assert (denied.topic, denied.code, denied.key) == (TOPICS.event, 0x87, "k")
    assert "authori" in denied.reason.lower()
    assert cam.outbox.size()[0] == 1


def test_names_passwords_and_tls(
    start_mosquitto: Callable[..., Broker], device: Callable[..., Device], tmp_path: Path, free_port: int
) -> None:
    tools = [shutil.which(tool) for tool in ("openssl", "mosquitto_passwd")]
    if None in tools:
        pytest.skip("needs openssl and mosquitto_passwd")
    key, certificate, accounts = (tmp_path / name for name in ("key.pem", "cert.pem", "accounts"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    subprocess.run(["mosquitto_passwd", "-b", "-c", accounts, "cam", "open sesame"], check=True, capture_output=True)
    options = (f"certfile {certificate}", f"keyfile {key}", f"password_file {accounts}", "allow_anonymous false")
    broker = start_mosquitto(*options)
    login = {"username": "cam", "password": "open sesame", "tls": True}
    assert device(broker.port, ca_file=str(certificate), **login).up().protocol == "5"

    stranger = device(broker.port, **login)  # does not know the broker's authority
    (down,) = stranger.events.wait_type(Down)
    assert "certificate" in down.reason.lower()
    missing = device(broker.port, ca_file=str(tmp_path / "absent.pem"), **login)
    (down,) = missing.events.wait_type(Down)
    assert "absent.pem" in down.reason


@pytest.mark.spec("8.2")
@pytest.mark.parametrize(
    ("not_before", "not_after", "says"),
    [
        ("20700101000000Z", "20710101000000Z", "not yet valid; this device's clock says 20"),
        ("20200101000000Z", "20210101000000Z", "expired; this device's clock says 20"),
    ],
)
def test_a_certificate_of_another_time_points_at_the_clock(
    start_mosquitto: Callable[..., Broker],
    device: Callable[..., Device],
    tmp_path: Path,
    not_before: str,
    not_after: str,
    says: str,
) -> None:
    """To a board that starts in 1970 every certificate is not yet valid."""
    key, certificate = make_certificate(tmp_path, not_before, not_after)
    broker = start_mosquitto(f"certfile {certificate}", f"keyfile {key}")
    (down,) = device(broker.port, tls=True, ca_file=str(certificate)).events.wait_type(Down)
    assert says in down.reason and "set it (NTP)" in down.reason


# ------------------------------------------------------------------------------------------------- closing


def test_closing_is_quick_when_there_is_no_broker(device: Callable[..., Device], free_port: int) -> None:
    cam = device(free_port)
    cam.events.wait_type(Down)
    cam.link.close(a_status(online=False))
    assert not cam.link.alive()


def test_closing_gives_up_on_a_line_that_stalls(
    mosquitto: Broker, device: Callable[..., Device], tcp_tap: Callable[[int], TcpTap]
) -> None:
    tap = tcp_tap(mosquitto.port)
    cam = device(tap.port)
    cam.up()
    tap.stall()
    cam.link.close(a_status(online=False))
    assert not cam.link.alive()


def test_the_link_needs_no_torch_and_the_gate_no_network() -> None:
    code = "import sys, agent.adapters.mqtt; print('torch' in sys.modules); "
    code += "[sys.modules.pop(name) for name in list(sys.modules) if name.startswith(('paho', 'agent'))]; "
    code += "import agent.adapters.egress, agent.adapters.outbox; print('paho.mqtt.client' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
