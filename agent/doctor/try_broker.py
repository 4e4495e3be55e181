"""Goes all the way to the broker and back, step by step: name, TCP, TLS, CONNECT, SUBSCRIBE, PUBLISH, and the echo.

Stops at the first step that fails and names it. It comes under an id of its own, so that a running daemon keeps its
connection, and leaves no session behind.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import time
from typing import Any

from agent.adapters.mqtt_session import (
    Accepted,
    Acknowledged,
    Arrived,
    LinkConfig,
    Session,
    SessionEnded,
    SubscriptionRefused,
)
from agent.adapters.reconnect import Protocol
from agent.doctor.probe import request
from transfer import wire

STEP_TIMEOUT_S = 5.0
Said = dict[str, Any]


class StepFailed(Exception):
    """`step` of the way failed; `step` "version": another version of MQTT may work."""

    def __init__(self, step: str, error: str) -> None:
        super().__init__(error)
        self.step = step


def reach(config: LinkConfig) -> None:
    """Name, TCP and TLS: what comes before MQTT, apart from it so that each has its own advice."""
    try:
        socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StepFailed("name", error.strerror or str(error)) from None
    try:
        connection = socket.create_connection((config.host, config.port), timeout=STEP_TIMEOUT_S)
    except OSError as error:
        raise StepFailed("tcp", error.strerror or str(error)) from None
    with connection:
        if config.tls:
            _handshake(config, connection)


def _handshake(config: LinkConfig, connection: socket.socket) -> None:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.cert_file:
            context.load_cert_chain(config.cert_file, config.key_file)
    except (OSError, ValueError) as error:
        raise StepFailed("files", str(error)) from None
    try:
        context.wrap_socket(connection, server_hostname=config.host).close()
    except ssl.SSLCertVerificationError as error:
        raise StepFailed("certificate", error.verify_message) from None
    except OSError as error:
        raise StepFailed("tls", getattr(error, "reason", None) or error.strerror or str(error)) from None


def converse(config: LinkConfig, protocol: Protocol, topic: str) -> Said:
    """Connect, subscribe to `topic`, publish to it, and hear it. Raises StepFailed."""
    session = Session(config, protocol, topic, b"", lasting=False)
    ours, _unused = socket.socketpair()
    step, said, began_s = "connect", Said(protocol=protocol), time.monotonic()
    payload = wire.encode(wire.Echo(session=0, n=secrets.randbelow(2**31)))
    waiting = {"publish", "echo"}
    try:
        session.begin()
        while waiting:
            if time.monotonic() - began_s > STEP_TIMEOUT_S:
                # Some that speak 3.1.1 only say nothing at all to a newer CONNECT.
                unknown = step == "connect" and protocol == "5"
                raise StepFailed("version" if unknown else step, f"no answer within {STEP_TIMEOUT_S:g} s")
            for happened in session.step(ours, 0.2):
                if isinstance(happened, Accepted):
                    said["max_packet_bytes"] = happened.max_packet_bytes
                    session.subscribe([topic])
                    step, began_s = "subscribe", time.monotonic()
                elif isinstance(happened, SubscriptionRefused):
                    raise StepFailed("subscribe", happened.failure)
                elif isinstance(happened, Acknowledged):
                    if happened.failure:
                        raise StepFailed("publish", happened.failure)
                    waiting.discard("publish")
                    step = "echo"
                elif isinstance(happened, Arrived) and happened.payload == payload:
                    waiting.discard("echo")
                    said["round_trip_ms"] = (time.monotonic() - began_s) * 1000
            if step == "subscribe" and session.subscribed:
                step, began_s = "publish", time.monotonic()
                session.publish(topic, payload, qos=1, retain=False)
    except SessionEnded as ended:
        suspect = ended.version_suspect and protocol == "5"
        raise StepFailed("version" if suspect else step, ended.reason) from None
    finally:
        session.disconnect()
    return said


def attempt(config: LinkConfig, topic: str) -> Said:
    """What the report says: `step` is "" where all of it worked."""
    try:
        reach(config)
        try:
            return Said(step="", **converse(config, "5", topic))
        except StepFailed as failed:
            if failed.step != "version":
                raise
        return Said(step="", **converse(config, "3.1.1", topic))
    except StepFailed as failed:
        return Said(step=failed.step, error=str(failed))


def main() -> None:
    asked = request()
    try:
        said = attempt(LinkConfig(**asked["link"]), asked["topic"])
    except ValueError as error:  # what LinkConfig refuses
        said = Said(step="files", error=str(error))
    print(json.dumps(said))


if __name__ == "__main__":
    main()
