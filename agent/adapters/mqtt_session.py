"""One MQTT connection from CONNECT to its end, driven by one thread. The only file on the device that imports paho.

paho keeps its unacknowledged messages in memory and would send them again by itself on the next connection. Here every
connection gets a client of its own, so the outbox alone decides what is sent again, and a client that went wrong is
left behind with all its state.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from agent.adapters.lean_import import standing_in
from agent.adapters.reconnect import Protocol
from transfer import wire

# paho asks it which proxy to take, and takes none without PySocks; with http and email behind it, it costs 1.6 MiB.
with standing_in(*(() if find_spec("socks") else ("urllib.request",))):
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

SESSION_EXPIRY_S = 3600
"""How long a broker that speaks MQTT 5 keeps what arrives for a device that is away."""
WINDOW = 20
"""Messages that may be unacknowledged in either direction."""
CONNECT_TIMEOUT_S = 5.0
UNSUPPORTED_VERSION = 0x84
NOT_YET_VALID, HAS_EXPIRED = 9, 10
"""OpenSSL's X509_V_ERR_CERT_*: what a certificate looks like to a clock that is wrong."""


@dataclass(frozen=True, kw_only=True)
class LinkConfig:
    """Where the broker is and who we are. Raises ValueError where that cannot work."""

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_id: str
    keepalive_s: int = 30
    max_message_bytes: int = wire.MAX_MESSAGE_BYTES

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("link: host is empty; name the broker")
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"link: port {self.port} is not between 1 and 65535")
        if not self.client_id:
            raise ValueError("link: client_id is empty; without one the broker cannot keep our session")
        if not 1 <= self.keepalive_s <= 65_535:
            raise ValueError(f"link: keepalive_s {self.keepalive_s} is not between 1 and 65535")
        if self.max_message_bytes < 1:
            raise ValueError(f"link: max_message_bytes {self.max_message_bytes} is not positive")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("link: cert_file and key_file belong together; give both or neither")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("link: ca_file and cert_file have no effect without tls; set tls to true")


@dataclass(frozen=True)
class Accepted:
    """The broker took us. `max_packet_bytes` is its limit for a whole packet; None = it named none."""

    max_packet_bytes: int | None
    window: int


@dataclass(frozen=True)
class Arrived:
    """The broker sends it again on another connection until `acknowledge` is called with its `mid` on this one; 0: it
    does not (QoS 0)."""

    topic: str
    payload: bytes
    mid: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Acknowledged:
    """The broker answered our publish `mid`; `failure` is empty where it took it."""

    mid: int
    code: int
    failure: str


@dataclass(frozen=True)
class SubscriptionRefused:
    topic: str
    code: int
    failure: str


Happening = Accepted | Arrived | Acknowledged | SubscriptionRefused


class SessionEnded(Exception):
    """The connection is over. `version_suspect`: it may be because the broker does not speak our MQTT version."""

    def __init__(self, reason: str, *, version_suspect: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.version_suspect = version_suspect


class Session:
    """Call `begin`, then `step` for as long as it does not raise; then `abandon`."""

    def __init__(
        self, config: LinkConfig, protocol: Protocol, will_topic: str, will_payload: bytes, *, lasting: bool = True
    ) -> None:
        """`lasting`: the broker is to keep what arrives while we are away."""
        self._lasting = lasting
        self._config = config
        self._v5 = protocol == "5"
        self._happened: list[Happening] = []
        self._subscribing: dict[int, str] = {}
        self._asked = False
        self.accepted = False
        """Whether the broker has taken us."""
        self._end: SessionEnded | None = None
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=config.client_id,
            protocol=paho.MQTTv5 if self._v5 else paho.MQTTv311,
            clean_session=None if self._v5 else not lasting,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.will_set(will_topic, will_payload, qos=1, retain=True)
        if config.username:
            client.username_pw_set(config.username, config.password)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe

    def begin(self) -> None:
        """Open the socket and send CONNECT; blocks up to CONNECT_TIMEOUT_S. Raises SessionEnded."""
        config = self._config
        if config.tls:
            try:
                self._client.tls_set(config.ca_file, config.cert_file, config.key_file)
            except (OSError, ValueError) as error:
                files = f"ca_file {config.ca_file}, cert_file {config.cert_file}, key_file {config.key_file}"
                raise SessionEnded(f"cannot use the TLS files ({files}): {error}") from None
        try:
            if self._v5:
                properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = SESSION_EXPIRY_S if self._lasting else 0
                properties.ReceiveMaximum = WINDOW
                # Well above what we accept, so that a message somewhat too large is still seen, and reported.
                properties.MaximumPacketSize = 4 * config.max_message_bytes + 1024
                # clean_start is true by default on the first connect, and then the broker forgets us.
                self._client.connect(
                    config.host,
                    config.port,
                    config.keepalive_s,
                    clean_start=not self._lasting,
                    properties=properties,
                )
            else:
                self._client.connect(config.host, config.port, config.keepalive_s)
        except ssl.SSLCertVerificationError as error:
            reason = f"cannot connect to {config.host}:{config.port}: {error.verify_message}{_clock_advice(error)}"
            raise SessionEnded(reason) from None
        except (OSError, ValueError) as error:  # refused, unknown host
            raise SessionEnded(f"cannot connect to {config.host}:{config.port}: {error}") from None

    @property
    def congested(self) -> bool:
        """Whether bytes are still waiting for the socket: what is published now only fills memory."""
        return self._client.want_write()

    @property
    def subscribed(self) -> bool:
        """Whether the broker has answered all our subscriptions: what is published now can be answered to us."""
        return self._asked and not self._subscribing

    def subscribe(self, topics: Sequence[str]) -> None:
        self._asked = True
        for topic in topics:
            _, mid = self._client.subscribe(topic, qos=1)
            if mid is not None:
                self._subscribing[mid] = topic

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Hand a message to paho; the message id that will be acknowledged (QoS 1 only)."""
        return self._client.publish(topic, payload, qos=qos, retain=retain).mid

    def acknowledge(self, mid: int) -> None:
        """Tell the broker that it need not send this again. Call in the order in which the messages arrived."""
        if mid:  # sent with QoS 0 it has none, and nobody waits for an answer
            self._client.ack(mid, qos=1)

    def step(self, wake: socket.socket, timeout_s: float) -> list[Happening]:
        """Carry traffic until something happens, `wake` becomes readable, or `timeout_s` has passed.

        Raises SessionEnded when the connection is over and all that had happened before was returned.
        """
        connection = self._client.socket()
        if connection is None:
            raise self._end or SessionEnded("the connection was closed", version_suspect=not self.accepted)
        decrypted = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        reading: list[Any] = [connection, wake]
        writing: list[Any] = [connection] if self._client.want_write() else []
        try:
            readable, writable, _ = select.select(reading, writing, [], 0 if decrypted else max(timeout_s, 0))
            if wake in readable:
                with suppress(BlockingIOError):
                    wake.recv(4096)
            if decrypted or connection in readable:
                self._client.loop_read()
            if connection in writable:
                self._client.loop_write()
            self._client.loop_misc()
        except Exception as error:  # whatever a broken broker's bytes do to paho's parser
            raise SessionEnded(f"protocol error: {error!r}", version_suspect=not self.accepted) from error
        happened, self._happened = self._happened, []
        return happened

    def disconnect(self) -> None:
        """Say goodbye, so that the broker drops our last will."""
        with suppress(OSError, ValueError):
            self._client.disconnect()
            self._client.loop_write()
        self.abandon()

    def abandon(self) -> None:
        """Cut the connection without a word: the broker then publishes our last will."""
        connection = self._client.socket()
        if connection is not None:
            with suppress(OSError):
                connection.close()

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: paho.ConnectFlags, code: ReasonCode, properties: Any
    ) -> None:
        if code.is_failure:
            suspect = code.value == UNSUPPORTED_VERSION
            self._end = SessionEnded(f"the broker refused us: {code}", version_suspect=suspect)
            return
        self.accepted = True
        window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self._happened.append(Accepted(getattr(properties, "MaximumPacketSize", None), window))

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: paho.DisconnectFlags, code: ReasonCode, properties: Any
    ) -> None:
        if self._end is None:
            who = "the broker hung up" if flags.is_disconnect_packet_from_server else "the connection was lost"
            self._end = SessionEnded(f"{who}: {code}", version_suspect=not self.accepted)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self._happened.append(Arrived(message.topic, bytes(message.payload), message.mid))

    def _on_publish(self, client: paho.Client, userdata: Any, mid: int, code: ReasonCode, properties: Any) -> None:
        self._happened.append(Acknowledged(mid, code.value, str(code) if code.is_failure else ""))

    def _on_subscribe(
        self, client: paho.Client, userdata: Any, mid: int, codes: list[ReasonCode], properties: Any
    ) -> None:
        topic = self._subscribing.pop(mid, "")
        self._happened += [SubscriptionRefused(topic, code.value, str(code)) for code in codes if code.is_failure]


def _clock_advice(error: ssl.SSLCertVerificationError) -> str:
    """Certificates are judged by the date, and a board without a battery starts with a wrong one."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    if error.verify_code == NOT_YET_VALID:
        return f"; this device's clock says {today}: set it (NTP), the link then comes up by itself"
    if error.verify_code == HAS_EXPIRED:
        return f"; this device's clock says {today}: if that is wrong, set it (NTP), else renew the certificate"
    return ""
