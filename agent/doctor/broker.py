"""The broker: whether it can be reached with the configured name, password and files, and lets us speak and hear."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from agent.config import Config, Mqtt
from agent.doctor.finding import Finding, fails, limited, works
from agent.doctor.probe import ask
from transfer import wire


def examine_broker(config: Config) -> Finding:
    """A broker that fails only limits: the daemon classifies without it, keeps what must arrive, and tries again."""
    mqtt, device = config.mqtt, config.device
    where = f"{mqtt.host}:{mqtt.port}"
    topics = wire.Topics(device.prefix, device.fleet, device.name)
    password, fault = _password(mqtt.password_file)
    if fault:
        return fails(
            "broker", f"mqtt.password_file: {fault}", "its first line must be the password, for the daemon to read"
        )
    link = {
        "host": mqtt.host,
        "port": mqtt.port,
        "username": mqtt.username or None,
        "password": password,
        "tls": mqtt.tls,
        "ca_file": mqtt.ca_file or None,
        "cert_file": mqtt.cert_file or None,
        "key_file": mqtt.key_file or None,
        "client_id": f"{device.prefix}-{device.fleet}-{device.name}-doctor",
        "keepalive_s": mqtt.keepalive_s,
        "max_message_bytes": mqtt.max_message_bytes,
    }
    answer = ask("broker", {"link": link, "topic": topics.echo}, timeout_s=40)
    if answer.died:
        return limited("broker", f"{where}: {answer.died}", "is the network up? A name that takes long to look up?")
    said = answer.said
    if not said["step"]:
        limit = said.get("max_packet_bytes")
        packets = f", packets of at most {limit:,} bytes" if limit else ""
        secure = "TLS, " if mqtt.tls else ""
        return works(
            "broker", f"{where}: {secure}MQTT {said['protocol']}, echo after {said['round_trip_ms']:.0f} ms{packets}"
        )
    return limited("broker", f"{where}: {said['error']}", _advice(said, config, topics))


def _advice(said: dict[str, Any], config: Config, topics: wire.Topics) -> str:
    mqtt, step, error = config.mqtt, said["step"], str(said["error"]).lower()
    if step == "certificate":
        return _certificate_advice(error, mqtt)
    if step in ("connect", "version"):
        return _connect_advice(error, mqtt)
    tree = topics.echo.removesuffix("/echo")
    return {
        "name": f"mqtt.host {mqtt.host!r} is not known here: check its spelling and the name server, or use an address",
        "tcp": _tcp_advice(error, mqtt),
        "files": "mqtt.ca_file, cert_file and key_file must be PEM files that the daemon's user can read",
        "tls": "does this port speak TLS? 8883 usually does; else set mqtt.tls: false",
        "subscribe": f"the broker lets {mqtt.username or 'anonymous'} connect, but not read {tree}/#: grant it (ACL)",
        "publish": f"the broker lets {mqtt.username or 'anonymous'} connect, but not write {tree}/#: grant it (ACL)",
        "echo": f"what is published does not come back: grant reading and writing of {tree}/# (ACL)",
    }[step]


def _tcp_advice(error: str, mqtt: Mqtt) -> str:
    if "refused" in error:
        return f"nothing listens on port {mqtt.port}: is the broker running, is mqtt.port right (1883; 8883 with TLS)?"
    return "no way there: check mqtt.host, mqtt.port, the network and the firewall"


def _certificate_advice(error: str, mqtt: Mqtt) -> str:
    if "not yet valid" in error or "expired" in error:
        today = time.strftime("%Y-%m-%d", time.gmtime())
        return f"this device's clock says {today}: set it (NTP) if that is wrong, else the certificate must be renewed"
    if "mismatch" in error or "not valid for" in error:
        return f"mqtt.host {mqtt.host!r} must be a name that stands in the broker's certificate"
    return "set mqtt.ca_file to the certificate of the authority that signed the broker's"


def _connect_advice(error: str, mqtt: Mqtt) -> str:
    if "password" in error or "authoriz" in error or "authoris" in error or "authentication" in error:
        who = f"mqtt.username {mqtt.username!r}" if mqtt.username else "mqtt.username (empty)"
        return f"the broker knows no such user and password: check {who} and the first line of mqtt.password_file"
    if "identifier" in error:
        return "the broker allows certain client ids only: the daemon's is PREFIX-FLEET-NAME, the doctor's -doctor more"
    if not mqtt.tls:
        return "it did not answer: this port may want TLS (mqtt.tls: true), or not be MQTT at all"
    if not mqtt.cert_file:
        return "it did not answer: the broker may want a client certificate (mqtt.cert_file, mqtt.key_file)"
    return "the broker's log says why it did not answer"


def _password(file: str) -> tuple[str | None, str]:
    """The password, and what is wrong with its file."""
    if not file:
        return None, ""
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except OSError as error:
        return None, f"{file}: {error.strerror}"
    except UnicodeDecodeError:
        return None, f"{file}: not text in UTF-8"
    return (lines[0], "") if lines else (None, f"{file}: empty")
