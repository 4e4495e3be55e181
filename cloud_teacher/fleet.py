"""The operator's side: signed triggers and commands go out, and what the devices report is shown."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import msgspec

from transfer import signing, wire
from transfer.wire import DeviceCommand, Event, JobUpdate, Status, Topics, Trigger

if TYPE_CHECKING:
    from nacl.signing import SigningKey

Action = Literal["rollback", "cancel", "resume"]
ACTIONS: tuple[Action, ...] = get_args(Action)
Signed = TypeVar("Signed", Trigger, DeviceCommand)


def signed(message: Signed, key: SigningKey) -> Signed:
    """The message with the operator's signature."""
    return msgspec.structs.replace(message, signature=signing.sign(key, wire.signing_bytes(message)))


def trigger(
    categories: Sequence[str],
    key: SigningKey,
    *,
    now_utc: float,
    expires_s: float,
    samples: int,
    unseen: bool = False,
    devices: Sequence[str] = (),
    trigger_id: str | None = None,
) -> Trigger:
    """`categories` are to be learned from `samples` samples in all, by all devices or by these. Good for `expires_s`.

    Raises ValueError for categories that no device would take.
    """
    message = Trigger(
        id=trigger_id or f"trigger-{uuid.uuid4().hex}",
        categories=tuple(categories),
        issued_utc=now_utc,
        expires_utc=now_utc + expires_s,
        samples_wanted=samples,
        unseen=unseen,
        devices=tuple(devices),
    )
    return signed(message, key)


def command(action: str, device: str, key: SigningKey, *, now_utc: float, expires_s: float) -> DeviceCommand:
    """An order to one device, one of ACTIONS. Raises ValueError for any other."""
    if action not in ACTIONS:
        raise ValueError(f"unknown command {action!r}: use {', '.join(ACTIONS)}")
    message = DeviceCommand(
        id=f"command-{uuid.uuid4().hex}",
        device=device,
        action=action,
        issued_utc=now_utc,
        expires_utc=now_utc + expires_s,
    )
    return signed(message, key)


def checked(message: Signed) -> bytes:
    """The payload, after what receivers would refuse was refused here: msgspec checks only when it decodes.

    Raises wire.WireError, which names the field.
    """
    payload = wire.encode(message)
    wire.decode(payload, type(message))
    return payload


# ------------------------------------------------------------------------------------------------------------ watching


Report = Status | JobUpdate | Event
KINDS: dict[str, type[Report]] = {"status": Status, "job": JobUpdate, "event": Event}


def watched(topics: Topics) -> list[str]:
    return [topics.status, topics.job, topics.event]


@dataclass
class FleetView:
    """The latest that each device said of itself, by device."""

    statuses: dict[str, Status] = field(default_factory=dict)
    jobs: dict[str, JobUpdate] = field(default_factory=dict)

    def take(self, topic: str, payload: bytes) -> Report | None:
        """What the message says, or None where it is none, or says what a later session of the device superseded.

        A device speaks for itself only: the device in the topic, which the broker's access rules guard, must be the one
        in the message.
        """
        levels = topic.split("/")
        kind = KINDS.get(levels[-1])
        if kind is None or len(levels) < 2:
            return None
        try:
            message = wire.decode(payload, kind)
        except wire.WireError:
            return None
        known = self.statuses.get(message.device)
        if message.device != levels[-2] or (known is not None and message.session < known.session):
            return None
        if isinstance(message, Status):
            self.statuses[message.device] = message
        elif isinstance(message, JobUpdate):
            self.jobs[message.device] = message
        return message

    def rows(self) -> list[tuple[str, ...]]:
        """A line for each device, after `COLUMNS`."""
        return [self._row(status) for _, status in sorted(self.statuses.items())]

    def _row(self, status: Status) -> tuple[str, ...]:
        job = self.jobs.get(status.device)
        return (
            status.device,
            "online" if status.online else "offline",
            status.phase,
            str(status.generation),
            str(len(status.labels)),
            f"{', '.join(status.categories)} {status.collected}/{status.wanted}" if status.categories else "",
            f"{', '.join(job.categories)} {job.state}{_gain(job)}" if job else "",
            str(status.frames),
            str(status.dropped_frames),
            status.reason,
        )


COLUMNS = ("device", "link", "phase", "gen", "known", "collecting", "job", "frames", "dropped", "reason")


def _gain(job: JobUpdate) -> str:
    if job.new_after is None or job.old_after is None:
        return ""
    return f" (old {job.old_after:.0%}, new {job.new_after:.0%})"


def plain_line(message: Report) -> str:
    """One message for a person who reads lines."""
    if isinstance(message, Status):
        named = ", ".join(message.categories)
        collecting = f", {named} {message.collected}/{message.wanted}" if named else ""
        link = message.phase if message.online else "offline"
        return f"{message.device}: {link}, generation {message.generation}{collecting} {message.reason}".rstrip()
    if isinstance(message, JobUpdate):
        named = ", ".join(message.categories)
        return f"{message.device}: job {named} {message.state}{_gain(message)} {message.detail}".rstrip()
    detail = ", ".join(f"{name}={value}" for name, value in message.detail.items())
    return f"{message.device}: {message.kind} {detail}".rstrip()
