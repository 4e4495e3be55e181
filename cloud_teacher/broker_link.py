"""The cloud's link to the broker: MQTT 5 where the broker speaks it, 3.1.1 where it does not.

Nothing of the protocol depends on MQTT 5 (request id and reply topic are in the payloads); it only adds shared
subscriptions, so that several workers divide the requests, and the broker's packet limit.
"""

from __future__ import annotations

import contextlib
import queue
import ssl
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from transfer.wire import MAX_MESSAGE_BYTES

HANDSHAKE_S = {"5": 4.0, "3.1.1": 10.0}
"""Some brokers of 3.1.1 do not refuse MQTT 5 but say nothing at all."""
KEEPALIVE_S = 30
SESSION_EXPIRY_S = 60
"""Long enough to come back to one's requests, short: until then a killed worker still gets its share of them."""
PACKET_OVERHEAD_BYTES = 16
"""Fixed header, lengths and packet id around topic and payload of a PUBLISH."""
NOBODY_LISTENS = 0x10
"""Reason code of a PUBACK (MQTT 5, section 3.4.2.1); brokers may leave it out."""
V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311


class BrokerError(RuntimeError):
    """The broker cannot be reached or refuses us; the message says which broker and why."""


@dataclass(frozen=True)
class BrokerAddress:
    """Where the broker is and who we are to it. With `tls` its certificate is always checked."""

    host: str
    port: int
    username: str = ""
    password: str = ""
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __str__(self) -> str:
        """Without the password: this goes to logs."""
        user = f"{self.username}@" if self.username else ""
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{self.host}:{self.port}"


def parse_broker(
    url: str, *, ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> BrokerAddress:
    """mqtt://[user:password@]host[:port], or mqtts:// for TLS. Raises ValueError."""
    wrong = f"broker {url.rsplit('@', 1)[-1]!r}: expected mqtt://[user:password@]host[:port], or mqtts:// for TLS"
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{wrong} ({error})") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(wrong)
    tls = parts.scheme == "mqtts"
    return BrokerAddress(
        parts.hostname,
        port if port is not None else 8883 if tls else 1883,
        urllib.parse.unquote(parts.username or ""),
        urllib.parse.unquote(parts.password or ""),
        tls,
        ca_file,
        cert_file,
        key_file,
    )


Receive = Callable[[str, bytes], None]
Topics = Callable[[bool], Sequence[str]]
"""What to subscribe to; the argument says whether MQTT 5's shared subscriptions can be used."""


class BrokerLink:
    """One connection, which paho keeps up from its own thread once it stood. Callbacks come from that thread."""

    def __init__(
        self, address: BrokerAddress, *, subscribe: Topics = lambda _: (), receive: Receive | None = None
    ) -> None:
        self._address = address
        self._subscribe = subscribe
        self._receive = receive
        self._client_id = f"understudy-cloud-{uuid.uuid4().hex[:12]}"
        self._client: paho.Client | None = None
        self._thread: threading.Thread | None = None
        self._limit_bytes: int | None = None
        self._notes: dict[int, ReasonCode] = {}
        self.protocol = ""

    # -- connecting ------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Returns once connected and subscribed. Raises BrokerError."""
        refused = ""
        for protocol in (V5, V311):
            refused = self._try(protocol)
            if not refused:
                return
        raise BrokerError(f"{self._address} refuses us: {refused}")

    def connect_patiently(self, stop: threading.Event, complain: Callable[[str], None]) -> bool:
        """Connect, however long it takes for the broker to be there. False if `stop` was set meanwhile."""
        wait_s = 1.0
        while not stop.is_set():
            try:
                self.connect()
                return True
            except BrokerError as error:
                complain(str(error))
            stop.wait(wait_s)
            wait_s = min(wait_s * 2, 60.0)
        return False

    def _try(self, protocol: MQTTProtocolVersion) -> str:
        """Empty when connected and subscribed, else why this protocol was refused."""
        name = "5" if protocol == V5 else "3.1.1"
        outcomes: queue.Queue[str] = queue.Queue(maxsize=1)
        client = self._make(protocol, outcomes)
        try:
            self._open(client, protocol)
        except (OSError, ValueError) as error:
            raise BrokerError(f"cannot reach {self._address}: {error}") from error
        client.loop_start()
        try:
            outcome = outcomes.get(timeout=HANDSHAKE_S[name])
        except queue.Empty:
            outcome = f"no answer within {HANDSHAKE_S[name]:.0f} s"
        if outcome:
            client.disconnect()
            client.loop_stop()
            return outcome
        self._client, self.protocol = client, name
        self._thread = getattr(client, "_thread", None)
        return ""

    def _open(self, client: paho.Client, protocol: MQTTProtocolVersion) -> None:
        if protocol != V5:
            client.connect(self._address.host, self._address.port, KEEPALIVE_S)
            return
        # A session that outlives the connection: requests that arrive while it is being rebuilt are not lost.
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        client.connect(self._address.host, self._address.port, KEEPALIVE_S, clean_start=False, properties=properties)

    def _make(self, protocol: MQTTProtocolVersion, outcomes: queue.Queue[str]) -> paho.Client:
        """A client that tells its first outcome to `outcomes`, and subscribes anew whenever it reconnects."""
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self._client_id, protocol=protocol)
        address = self._address
        if address.username:
            client.username_pw_set(address.username, address.password or None)
        if address.tls:
            files = [str(path) if path else None for path in (address.ca_file, address.cert_file, address.key_file)]
            client.tls_set(files[0], files[1], files[2], tls_version=ssl.PROTOCOL_TLS_CLIENT)
        client.reconnect_delay_set(1, 60)

        def tell(outcome: str) -> None:
            with contextlib.suppress(queue.Full):  # only the first one is waited for
                outcomes.put_nowait(outcome)

        def on_connect(client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, properties: Any) -> None:
            if code.is_failure:
                tell(str(code))
                return
            self._limit_bytes = getattr(properties, "MaximumPacketSize", None)
            topics = [(topic, 1) for topic in self._subscribe(protocol == V5)]
            if topics:
                client.subscribe(topics)
            else:
                tell("")

        def on_subscribe(_client: paho.Client, _data: Any, _mid: int, codes: list[ReasonCode], _: Any) -> None:
            denied = [str(code) for code in codes if code.is_failure]
            tell(f"subscription denied ({denied[0]})" if denied else "")

        def on_disconnect(_client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _: Any) -> None:
            tell(f"connection closed ({code})")

        def on_message(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            if self._receive:
                self._receive(message.topic, bytes(message.payload))

        def on_publish(_client: paho.Client, _data: Any, mid: int, code: ReasonCode, _: Any) -> None:
            if code.value:
                self._notes[mid] = code

        client.on_connect = on_connect
        client.on_publish = on_publish
        client.on_subscribe = on_subscribe
        client.on_disconnect = on_disconnect
        client.on_message = on_message
        return client

    # -- using it --------------------------------------------------------------------------------------------------

    def payload_limit_bytes(self, topic: str) -> int:
        """The largest payload to publish on `topic`: ours, or the broker's if that is less. paho does not check."""
        if self._limit_bytes is None:
            return MAX_MESSAGE_BYTES
        return min(MAX_MESSAGE_BYTES, self._limit_bytes - len(topic.encode()) - PACKET_OVERHEAD_BYTES)

    def publish(self, topic: str, payload: bytes, *, timeout_s: float) -> bool:
        """QoS 1, never retained; returns when the broker has it: False if it says that nobody listens.

        Raises BrokerError.
        """
        return self.wait([self.send(topic, payload)], timeout_s=timeout_s)

    def send(self, topic: str, payload: bytes) -> paho.MQTTMessageInfo:
        """Hand over without waiting. Raises BrokerError while the link is down: paho would queue without bound."""
        if self._client is None or not self._client.is_connected():
            raise BrokerError(f"not connected to {self._address}")
        return self._client.publish(topic, payload, qos=1)

    def wait(self, sent: Sequence[paho.MQTTMessageInfo], *, timeout_s: float) -> bool:
        """Until the broker has acknowledged all of `sent`: False if nobody listens to some. Raises BrokerError."""
        deadline = time.monotonic() + timeout_s
        heard = True
        for info in sent:
            try:
                info.wait_for_publish(max(0.0, deadline - time.monotonic()))
                acknowledged = info.is_published()
            except (RuntimeError, ValueError) as error:
                raise BrokerError(f"{self._address} did not take a message: {error}") from error
            if not acknowledged:
                raise BrokerError(f"{self._address} did not acknowledge a message within {timeout_s:.0f} s")
            note = self._notes.pop(info.mid, None)
            if note is not None and note.is_failure:
                raise BrokerError(f"{self._address} refuses a message: {note}")
            heard &= note is None or note.value != NOBODY_LISTENS
        return heard

    def alive(self) -> bool:
        """Whether the thread that keeps the connection, or rebuilds it, still runs: an error in a callback ends it,
        and paho says so nowhere. True where paho has renamed it."""
        return self._thread is None or self._thread.is_alive()

    def close(self) -> None:
        if self._client is not None:
            if self.protocol == "5":
                # Our session ends with us, or the broker would go on handing it requests.
                properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = 0
                self._client.disconnect(properties=properties)
            else:
                self._client.disconnect()
            self._client.loop_stop()
            self._client = None
