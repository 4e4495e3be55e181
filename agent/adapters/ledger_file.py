"""The egress ledger on disk."""

from __future__ import annotations

import json
from pathlib import Path

from agent.adapters.egress import Ledger
from transfer.durable import write_atomic
from transfer.wire import Egress

Tallies = dict[str, dict[str, int]]


class LedgerFile:
    """`egress.json`. `ledger` goes on from what the file holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: Tallies = {}
        self.unreadable = ""
        """Why counting has begun anew, if it has."""
        self.ledger = self._load()

    def save(self) -> bool:
        """Write it where anything was counted since. Raises OSError."""
        return self._write(self.ledger.snapshot())

    def save_unless_idle(self) -> bool:
        """The same, but the heartbeat alone, which never ends, is no reason to write to a card."""
        snapshot = self.ledger.snapshot()
        heartbeat = Egress.OPERATIONAL.value
        told, saved = ({**tallies, heartbeat: {}} for tallies in (snapshot, self._saved))
        return told != saved and self._write(snapshot)

    def _write(self, snapshot: Tallies) -> bool:
        if snapshot == self._saved:
            return False
        write_atomic(self._path, json.dumps(snapshot).encode())
        self._saved = snapshot
        return True

    def _load(self) -> Ledger:
        try:
            ledger = Ledger(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            ledger = Ledger()
        except (OSError, ValueError) as error:
            self.unreadable = str(error)
            return Ledger()
        self._saved = ledger.snapshot()
        return ledger
