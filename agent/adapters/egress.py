"""The one gate every publish passes. It fails closed: what nobody has classified does not leave.

What may leave is decided by what a message could reveal (`wire.Egress`), never by its topic or its caller. The ledger
counts both sides, so that an operator can see what left the device and what was kept from leaving.
"""

from __future__ import annotations

import threading
from typing import Literal

import msgspec

from transfer import wire
from transfer.wire import Egress

Mode = Literal["local", "teacher_download", "upload"]


class EgressDenied(Exception):
    """A message may not leave this device. `code` is for programs; the text says what and which setting forbids it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Tally(msgspec.Struct):
    """How much of one class was let out, or held back."""

    allowed_messages: int = 0
    allowed_bytes: int = 0
    denied_messages: int = 0
    denied_bytes: int = 0


class Ledger:
    """Counts per class what was handed to the network and what was denied. Thread-safe; the caller persists it."""

    UNCLASSIFIED = "unclassified"

    def __init__(self, snapshot: dict[str, dict[str, int]] | None = None) -> None:
        """Go on from `snapshot`. Raises msgspec.ValidationError where it is not one."""
        self._tallies = {name: Tally() for name in (*(item.value for item in Egress), self.UNCLASSIFIED)}
        self._tallies.update(msgspec.convert(snapshot or {}, dict[str, Tally]))
        self._lock = threading.Lock()

    def allowed(self, egress: str, size_bytes: int) -> None:
        with self._lock:
            tally = self._tallies[egress]
            tally.allowed_messages += 1
            tally.allowed_bytes += size_bytes

    def denied(self, egress: str, size_bytes: int) -> None:
        with self._lock:
            tally = self._tallies[egress if egress in self._tallies else self.UNCLASSIFIED]
            tally.denied_messages += 1
            tally.denied_bytes += size_bytes

    def snapshot(self) -> dict[str, dict[str, int]]:
        """{class: {allowed_messages, allowed_bytes, denied_messages, denied_bytes}}, ready for JSON."""
        with self._lock:
            return {name: msgspec.structs.asdict(tally) for name, tally in self._tallies.items()}


class EgressGate:
    """Decides, by the privacy settings alone, what may leave the device."""

    def __init__(self, mode: Mode, consent: bool, share_predictions: bool, ledger: Ledger) -> None:
        self.ledger = ledger
        self._mode = mode
        self._consent = consent
        self._share_predictions = share_predictions

    def check(self, message: wire.Message) -> None:
        """Raises EgressDenied (and counts it) unless `message` may leave."""
        egress = getattr(type(message), "egress", None)
        reason = self._reason(egress)
        if reason is None:
            return
        name = egress.value if isinstance(egress, Egress) else Ledger.UNCLASSIFIED
        self.ledger.denied(name, len(msgspec.msgpack.encode(message)))
        raise EgressDenied(f"egress_{name}", f"{type(message).__name__} may not leave this device: {reason}")

    def check_stored(self, egress: str, size_bytes: int) -> None:
        """The same question about a message that was encoded earlier: the settings may have become stricter since.

        Raises EgressDenied (and counts it) unless a message of class `egress` may leave.
        """
        reason = self._reason(next((item for item in Egress if item.value == egress), None))
        if reason is None:
            return
        self.ledger.denied(egress, size_bytes)
        raise EgressDenied(f"egress_{egress}", f"a stored message of class {egress!r} may no longer leave: {reason}")

    def _reason(self, egress: object) -> str | None:
        """Why `egress` may not leave, or None where it may. Comparisons with True: a truthy setting is no consent."""
        if egress is Egress.OPERATIONAL:
            return None
        if egress is Egress.DERIVED:
            if self._mode not in ("teacher_download", "upload"):
                return f"in privacy mode {self._mode!r} nothing made from an image leaves"
            return None if self._share_predictions is True else "privacy.share_predictions is off"
        if egress is Egress.IMAGE:
            if self._mode != "upload":
                return f"it carries images and the privacy mode is {self._mode!r}, not 'upload'"
            return None if self._consent is True else "it carries images and nobody has consented to uploading them"
        return "nobody has said what it could reveal (no egress class)"
