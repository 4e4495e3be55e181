"""What `understudy fleet trigger | watch | keygen | command` do, given their parsed arguments. No torch."""

from __future__ import annotations

import argparse
import json
import sys
import time

import msgspec

from cloud_teacher import fleet
from cloud_teacher.broker_link import BrokerAddress, BrokerLink, parse_broker
from transfer import signing
from transfer.wire import Name, Topics

PUBLISH_TIMEOUT_S = 15.0


def address_of(arguments: argparse.Namespace) -> BrokerAddress:
    return parse_broker(arguments.broker, ca_file=arguments.ca, cert_file=arguments.cert, key_file=arguments.cert_key)


def topics_of(arguments: argparse.Namespace, device: str = "+") -> Topics:
    """Raises ValueError for a name that is no single level of a topic."""
    names = [arguments.prefix, arguments.fleet] + ([device] if device != "+" else [])
    for name in names:
        try:
            msgspec.convert(name, Name)
        except msgspec.ValidationError as error:
            raise ValueError(f"{name!r} cannot be a level of a topic: {error}") from None
    return Topics(arguments.prefix, arguments.fleet, device)


def trigger(arguments: argparse.Namespace) -> int:
    topics = topics_of(arguments)
    message = fleet.trigger(
        arguments.category,
        signing.load_key(arguments.key),
        trigger_id=arguments.id,
        now_utc=time.time(),
        expires_s=arguments.expires_s,
        samples=arguments.samples,
        unseen=arguments.unseen,
        devices=arguments.device,
    )
    heard = _publish(arguments, topics.trigger, fleet.checked(message))
    who = f"{len(message.devices)} devices of fleet" if message.devices else "fleet"
    _say(
        arguments,
        f"published {message.id}: {who} {arguments.fleet} is to learn {', '.join(map(repr, message.categories))}",
        {"id": message.id, "categories": message.categories, "expires_utc": message.expires_utc, "heard": heard},
    )
    return 0


def command(arguments: argparse.Namespace) -> int:
    topics = topics_of(arguments, arguments.device)
    message = fleet.command(
        arguments.action,
        arguments.device,
        signing.load_key(arguments.key),
        now_utc=time.time(),
        expires_s=arguments.expires_s,
    )
    heard = _publish(arguments, topics.command, fleet.checked(message))
    result = {"id": message.id, "action": message.action, "device": arguments.device, "heard": heard}
    _say(arguments, f"published {message.id}: {message.action} on {arguments.device}", result)
    return 0


def watch(arguments: argparse.Namespace) -> int:
    from cloud_teacher.signals import stop_on_signals
    from cloud_teacher.watch import best_form
    from cloud_teacher.watch import watch as show

    show(address_of(arguments), topics_of(arguments), best_form(arguments.json), stop_on_signals())
    return 0


def keygen(arguments: argparse.Namespace) -> int:
    public = signing.public_key_hex(signing.generate(arguments.path))
    _say(
        arguments,
        f"private key in {arguments.path}: keep it secret\npublic key, for the devices' list of trusted keys: {public}",
        {"path": str(arguments.path), "public_key": public},
    )
    return 0


def _publish(arguments: argparse.Namespace, topic: str, payload: bytes) -> bool:
    """False where the broker says that nobody listened; the message is not kept for those who come later."""
    link = BrokerLink(address_of(arguments))
    link.connect()
    try:
        heard = link.publish(topic, payload, timeout_s=PUBLISH_TIMEOUT_S)
    finally:
        link.close()
    if not heard:
        print(f"warning: the broker says that no device listens on {topic}", file=sys.stderr)
    return heard


def _say(arguments: argparse.Namespace, text: str, result: dict[str, object]) -> None:
    print(json.dumps(result) if arguments.json else text, flush=True)
