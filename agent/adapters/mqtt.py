"""The link to the broker: keeps one connection alive, sends what the gate lets out, reports what comes in.

One thread owns the connection and does everything on it, the calls to the daemon included; callers only leave messages
for it. What must arrive goes through the outbox: it is sent once per connection, at a bounded pace, until it is
acknowledged. Everything else is sent now or not at all.
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from agent.adapters.echo_watch import EchoWatch
from agent.adapters.egress import EgressGate
from agent.adapters.link_events import Denied, Down, LinkEvent, Received, TooLarge, Up
from agent.adapters.mqtt_session import (
    WINDOW,
    Accepted,
    Acknowledged,
    Arrived,
    Happening,
    LinkConfig,
    Session,
    SessionEnded,
    SubscriptionRefused,
)
from agent.adapters.outbox import Outbox, Until
from agent.adapters.outgoing import Outgoing, Sealed
from agent.adapters.receipts import Receipt, Receipts
from agent.adapters.reconnect import Backoff, Protocol, Versions
from transfer import wire

__all__ = ["Denied", "Down", "Link", "LinkConfig", "LinkEvent", "Received", "TooLarge", "Up"]

ANSWER_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 3.0
PACKET_OVERHEAD_BYTES = 256
"""A packet's header, topic (3 names of 64 characters) and ids: what a broker's packet limit leaves less for payload."""


class Link:
    """The only way out of the device. It takes typed messages, never bytes, so that the gate knows what they are.

    `current_status` and `on_event` are called on the link's own thread (a TooLarge of `publish` on the caller's); they
    must be quick and must not raise.
    """

    def __init__(
        self,
        config: LinkConfig,
        topics: wire.Topics,
        gate: EgressGate,
        outbox: Outbox,
        *,
        will: wire.Status,
        current_status: Callable[[], wire.Status],
        on_event: Callable[[LinkEvent], None],
        backoff_base_s: float = 1.0,
        backoff_cap_s: float = 60.0,
    ) -> None:
        self._config = config
        self._topics = topics
        self._outgoing = Outgoing(gate, outbox, config.max_message_bytes, on_event)
        self._will = will
        self._current_status = current_status
        self._on_event = on_event
        self._stable_s = 10 * backoff_base_s
        self._backoff = Backoff(backoff_base_s, backoff_cap_s)
        self._versions = Versions()
        self._inbound = (topics.trigger, topics.command, topics.teacher_reply)
        self._receipts = Receipts()
        self._unacknowledged: dict[int, Sealed] = {}
        self._acknowledged_at = 0.0  # or when one began to be owed
        self._window = WINDOW
        self._protocol: Protocol | None = None
        self._last_reason = ""
        self._mute_echo_reported = False
        self._final: wire.Status | None = None
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    # ------------------------------------------------------------------------------------------ called by anybody

    def start(self) -> None:
        """Begin connecting in the background."""
        self._thread.start()

    @property
    def protocol(self) -> Protocol | None:
        """The MQTT version in use; None while the link is down."""
        return self._protocol

    @property
    def limit_bytes(self) -> int:
        """Largest payload that can be published: the config's limit, or what the broker's packet limit leaves."""
        return self._outgoing.limit_bytes

    @property
    def why_down(self) -> str:
        """Why the last attempt failed or the last connection ended; "" while it is up, or was never tried."""
        return "" if self._protocol is not None else self._last_reason

    @property
    def live_dropped(self) -> int:
        """Messages that were worth sending at once only, and found the link too slow, since the start."""
        return self._outgoing.live_dropped

    def alive(self) -> bool:
        """Whether the link's thread runs, connected or not."""
        return self._thread.is_alive()

    def publish(
        self,
        message: wire.AnyMessage,
        topic: str,
        *,
        durable_key: str | None = None,
        until: Until = "acknowledged",
        critical: bool = False,
        retain: bool = False,
    ) -> bool:
        """Send `message`; never waits for the network. True: it is in the outbox, or was handed to a living link.

        With `durable_key` it is stored first and sent once per connection until `acknowledged(key)` is called or, with
        until="puback", the broker has taken it; the same key again replaces it. Without, or where the disk does not
        take it, it is dropped (False) while the link is down or too slow. Raises EgressDenied; reports TooLarge and
        returns False beyond `limit_bytes`.
        """
        sealed = self._outgoing.seal(message, topic, retain=retain, key=durable_key)
        if sealed is None:
            return False
        stored = durable_key is not None and self._outgoing.add_durable(
            sealed, durable_key, until=until, critical=critical
        )
        accepted = stored or (self._protocol is not None and self._outgoing.add_live(sealed))
        self._wake()
        return accepted

    def acknowledged(self, key: str) -> None:
        """The application got its answer: forget the outbox row `key`."""
        self._outgoing.acknowledged(key)

    def settle(self, receipt: Receipt) -> None:
        """What arrived under this receipt is safe, or of no use: the broker may forget it."""
        self._receipts.settle(receipt)
        self._wake()

    def close(self, final: wire.Status) -> None:
        """Publish `final` (retained), wait up to 3 s for the broker to take it, and disconnect."""
        self._final = final
        self._wake()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S + 1)

    def _wake(self) -> None:
        with suppress(OSError):  # full: it will wake anyway
            self._wake_sender.send(b"\0")

    # ------------------------------------------------------------------------------------------ the link's thread

    def _run(self) -> None:
        with self._wake_receiver, self._wake_sender:
            while self._final is None:
                began_s = time.monotonic()
                try:
                    self._connection()
                except SessionEnded as ended:
                    lasted_s = time.monotonic() - began_s
                    if not self._other_version_at_once(ended, lasted_s):
                        self._sleep(self._backoff.next_s())

    def _other_version_at_once(self, ended: SessionEnded, lasted_s: float) -> bool:
        """Account for a connection that ended; whether to try the other MQTT version without waiting."""
        was_up, self._protocol = self._protocol is not None, None
        first = next((sealed for sealed in self._unacknowledged.values() if sealed.row), None)
        self._unacknowledged.clear()
        if self._outgoing.connection_lost(first) and first is not None and first.row is not None:
            reason = "the broker hangs up whenever this is sent; it goes last from now on"
            self._on_event(Denied(first.topic, 0, reason, first.row.key))
        if was_up:
            self._versions.lost()
            if lasted_s > self._stable_s:
                self._backoff.reset()
        elif ended.version_suspect and self._versions.unanswered():
            return True
        if was_up or ended.reason != self._last_reason:
            self._last_reason = ended.reason
            self._on_event(Down(ended.reason))
        return False

    def _sleep(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while self._final is None and (left_s := until_s - time.monotonic()) > 0:
            if select.select([self._wake_receiver], [], [], left_s)[0]:
                self._wake_receiver.recv(4096)

    def _connection(self) -> None:
        """One connection from beginning to end. Raises SessionEnded, or returns when the link is being closed."""
        will = self._outgoing.seal(self._will, self._topics.status, retain=True)
        if will is None:
            raise SessionEnded("the last will is larger than the message limit")
        session = Session(self._config, self._versions.current, will.topic, will.payload)
        self._receipts.begin()
        try:
            session.begin()
            self._outgoing.sent(will)
            self._serve(session)
        finally:
            session.abandon()

    def _greet(self, session: Session, accepted: Accepted) -> None:
        """A new connection: learn its limits, and subscribe before anything is sent that may be answered."""
        self._versions.connected()
        self._window = accepted.window
        limit_bytes = self._config.max_message_bytes
        if accepted.max_packet_bytes is not None:
            limit_bytes = min(limit_bytes, max(accepted.max_packet_bytes - PACKET_OVERHEAD_BYTES, 0))
        self._outgoing.limit_bytes = limit_bytes
        session.subscribe((*self._inbound, self._topics.echo))

    def _announce(self, session: Session) -> None:
        """The connection is ready: the status goes first, whatever was retained of an earlier session."""
        self._say(session, self._current_status(), self._topics.status, retain=True)
        self._protocol = self._versions.current
        self._last_reason = ""
        self._on_event(Up(self._protocol))

    def _serve(self, session: Session) -> None:
        began_s, keepalive_s = time.monotonic(), self._config.keepalive_s
        echo = EchoWatch(keepalive_s, began_s)
        while self._final is None:
            now_s = time.monotonic()
            if self._protocol is None and session.subscribed:
                echo.alive(now_s)
                self._announce(session)
            if self._protocol is None:
                wait_s = self._answer_in_s(session, now_s - began_s)
            else:
                if echo.overdue(now_s):
                    self._no_echo(echo)
                if self._unacknowledged and now_s - self._acknowledged_at > 2 * keepalive_s:
                    # It may route echoes and yet owe us acknowledgements: the window would stay full for ever.
                    raise SessionEnded(f"connected, but nothing was acknowledged for {2 * keepalive_s} s")
                if echo.due(now_s):
                    self._say(session, wire.Echo(session=self._will.session, n=echo.sent), self._topics.echo)
                wait_s = min(self._feed(session), echo.next_s - now_s, keepalive_s / 4)
            self._acknowledge(session)
            for happening in session.step(self._wake_receiver, wait_s):
                self._handle(session, happening, echo)
        self._say_goodbye(session, self._final)

    def _answer_in_s(self, session: Session, passed_s: float) -> float:
        """How much longer the broker may take to accept us and our subscriptions. Raises SessionEnded."""
        patience_s = ANSWER_TIMEOUT_S if session.accepted else self._versions.patience_s
        if passed_s >= patience_s:
            reason = f"the broker did not answer within {patience_s:.0f} s"
            raise SessionEnded(reason, version_suspect=not session.accepted)
        return patience_s - passed_s

    def _feed(self, session: Session) -> float:
        """Give the connection what it can take; the rest waits here, where it is bounded, and not in paho. Returns
        after how many seconds there may be more to give, if nothing happens meanwhile."""
        while len(self._unacknowledged) < self._window and not session.congested:
            sealed = self._outgoing.next()
            if sealed is None:
                return self._outgoing.wait_s
            self._send(session, sealed)
        return math.inf

    def _say(self, session: Session, message: wire.AnyMessage, topic: str, *, retain: bool = False) -> int | None:
        sealed = self._outgoing.seal(message, topic, retain=retain)
        return None if sealed is None else self._send(session, sealed)

    def _send(self, session: Session, sealed: Sealed) -> int:
        mid = session.publish(sealed.topic, sealed.payload, qos=sealed.qos, retain=sealed.retain)
        self._outgoing.sent(sealed)
        if sealed.qos > 0:
            if not self._unacknowledged:
                self._acknowledged_at = time.monotonic()
            self._unacknowledged[mid] = sealed
        return mid

    def _handle(self, session: Session, happening: Happening, echo: EchoWatch) -> None:
        if isinstance(happening, Accepted):
            self._greet(session, happening)
        elif isinstance(happening, Acknowledged):
            sealed = self._unacknowledged.pop(happening.mid, None)
            if sealed is None:  # QoS 0: only paho says so, not the broker
                return
            self._acknowledged_at = time.monotonic()
            echo.alive(self._acknowledged_at)
            if happening.failure:
                key = sealed.row.key if sealed.row else None
                self._on_event(Denied(sealed.topic, happening.code, happening.failure, key))
            else:
                self._outgoing.taken(sealed)
        elif isinstance(happening, SubscriptionRefused):
            self._on_event(Denied(happening.topic, happening.code, happening.failure))
        elif isinstance(happening, Arrived):
            echo.alive(time.monotonic())
            self._receive(happening, echo)

    def _receive(self, arrived: Arrived, echo: EchoWatch) -> None:
        size_bytes, limit_bytes = len(arrived.payload), self._config.max_message_bytes
        receipt = self._receipts.arrived(arrived.mid)
        if arrived.topic == self._topics.echo:
            with suppress(wire.WireError):
                echo.proven |= wire.decode(arrived.payload, wire.Echo).session == self._will.session
        elif arrived.topic in self._inbound:
            fits = size_bytes <= limit_bytes
            if fits:
                self._on_event(Received(arrived.topic, arrived.payload, receipt))
                return
            self._on_event(TooLarge(arrived.topic, size_bytes, limit_bytes))
        self._receipts.settle(receipt)

    def _acknowledge(self, session: Session) -> None:
        for mid in self._receipts.due():
            session.acknowledge(mid)

    def _no_echo(self, echo: EchoWatch) -> None:
        if echo.proven:
            raise SessionEnded(f"connected, but nothing came back for {2 * self._config.keepalive_s} s")
        # Never one on this connection: the broker's ACL, not a dead line. Said once; MQTT's own pings must do.
        if not self._mute_echo_reported:
            self._mute_echo_reported = True
            reason = "no echo comes back; let the device read and write this topic to have dead links noticed"
            self._on_event(Denied(self._topics.echo, 0, reason))

    def _say_goodbye(self, session: Session, final: wire.Status) -> None:
        """Everything given to us before goes first; what the broker does not take in time is in the outbox or lost."""
        deadline_s = time.monotonic() + CLOSE_TIMEOUT_S
        self._protocol = None
        echo = EchoWatch(CLOSE_TIMEOUT_S, time.monotonic())
        with suppress(SessionEnded):
            self._acknowledge(session)
            self._feed(session)
            mid = self._say(session, final, self._topics.status, retain=True)
            while mid in self._unacknowledged and (left_s := deadline_s - time.monotonic()) > 0:
                for happening in session.step(self._wake_receiver, left_s):
                    self._handle(session, happening, echo)
        session.disconnect()
