"""What the link tells the daemon."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.adapters.receipts import Receipt
from agent.adapters.reconnect import Protocol


@dataclass(frozen=True)
class Up:
    """Connected, with this version of MQTT."""

    protocol: Protocol


@dataclass(frozen=True)
class Down:
    """The connection ended or could not be made. Reported once for each new reason, not for each attempt."""

    reason: str


@dataclass(frozen=True)
class Received:
    """A message on the trigger, command or teacher-reply topic; its size is checked, its content is not. The broker
    keeps it until `Link.settle` is called with its receipt."""

    topic: str
    payload: bytes
    receipt: Receipt = field(default=Receipt(0), compare=False)


@dataclass(frozen=True)
class Denied:
    """The broker refused a publish or a subscription, or never routed our echo (an ACL, as a rule)."""

    topic: str
    code: int
    reason: str
    key: str | None = None


@dataclass(frozen=True)
class TooLarge:
    """A message was dropped, sent or received, because of its size. A durable one is not in the outbox (any more)."""

    topic: str
    size_bytes: int
    limit_bytes: int
    key: str | None = None


LinkEvent = Up | Down | Received | Denied | TooLarge
