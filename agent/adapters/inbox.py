"""Operators' messages: decoded, their signature and expiry checked, turned into the core's events."""

from __future__ import annotations

from collections.abc import Callable

from agent.core.events import CancelOrdered, Event, ResumeOrdered, RollbackOrdered, TriggerArrived
from transfer import signing, wire

ORDERS: dict[str, Callable[[float, str], Event]] = {
    "rollback": RollbackOrdered,
    "cancel": CancelOrdered,
    "resume": ResumeOrdered,
}
"""What an operator may order, from afar and on the device."""


class OrderRefused(ValueError):
    """An order that is not obeyed; `code` is for programs, the text says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Inbox:
    """Reads what arrives on the trigger and command topics. `operators`: public keys (hex) that are obeyed."""

    def __init__(
        self,
        topics: wire.Topics,
        operators: tuple[str, ...],
        *,
        now: Callable[[], float],
        now_utc: Callable[[], float],
    ) -> None:
        self._topics, self._operators = topics, operators
        self._now, self._now_utc = now, now_utc

    def read(self, topic: str, payload: bytes) -> Event | None:
        """The event an order means; None where it is meant for other devices. Raises OrderRefused, wire.WireError."""
        if topic == self._topics.trigger:
            trigger = wire.decode(payload, wire.Trigger)
            if trigger.devices and self._topics.device not in trigger.devices:
                return None
            self._check(trigger)
            return TriggerArrived(self._now(), trigger.id, trigger.categories, trigger.samples_wanted, trigger.unseen)
        if topic == self._topics.command:
            command = wire.decode(payload, wire.DeviceCommand)
            if command.device != self._topics.device:
                raise OrderRefused("other_device", f"DeviceCommand {command.id}: meant for {command.device}")
            self._check(command)
            return ORDERS[command.action](self._now(), command.id)
        raise OrderRefused("unknown_topic", f"nothing is expected on {topic}")

    def _check(self, order: wire.Trigger | wire.DeviceCommand) -> None:
        name = f"{type(order).__name__} {order.id}"
        if signing.verify(self._operators, wire.signing_bytes(order), order.signature) is None:
            raise OrderRefused("bad_signature", f"{name}: not signed by any of mqtt.operator_keys")
        if self._now_utc() > order.expires_utc:
            late_s = self._now_utc() - order.expires_utc
            raise OrderRefused("expired", f"{name}: expired {late_s:.0f} s ago, if this device's clock is right")
