"""The core's decisions in their order: the new state is written down first, then its commands are carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from agent.adapters.disk_trouble import Trouble
from agent.adapters.state_file import StateFile
from agent.core import commands as do
from agent.core.state import State, durable


class Bookkeeping:
    """Where the disk refuses the state, the work goes on: a round is at worst done again from the last good state. But
    what others would take for a promise, the report of a job or the word that an order need not come again, waits until
    the state that it follows from is safe.
    """

    def __init__(self, file: StateFile, state: State, carry_out: Callable[[do.Command], None]) -> None:
        """`state` is what the file holds, or what it would be begun with."""
        self._file, self._carry_out = file, carry_out
        self._state, self._written = state, durable(state)
        self._held: list[Callable[[], None]] = []
        self._failures = 0
        self._failure = ""

    @property
    def trouble(self) -> Trouble:
        return self._failures, self._failure

    def follow(self, state: State, commands: Sequence[do.Command], safe: Callable[[], None] | None = None) -> None:
        """Write `state`, then carry out `commands`, in order, and call `safe`."""
        self._state = state
        written = self._write()
        for command in commands:
            if written or not isinstance(command, do.ReportJob):
                self._carry_out(command)
            else:
                self._held.append(partial(self._carry_out, command))
        if safe is not None and written:
            safe()
        elif safe is not None:
            self._held.append(safe)

    def catch_up(self) -> None:
        """Try again what the disk has refused."""
        if self._failure:
            self._write()

    def _write(self) -> bool:
        if durable(self._state) == self._written:
            return not self._failure
        try:
            self._file.save(self._state)
        except OSError as error:
            self._failures, self._failure = self._failures + 1, str(error)
            return False
        self._written, self._failure = durable(self._state), ""
        held, self._held = self._held, []
        for promise in held:
            promise()
        return True
