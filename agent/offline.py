"""Orders without a daemon: what it would have decided is written down, and its next start carries out the rest."""

from __future__ import annotations

import time
from typing import Any

from agent.adapters.model_store import ModelStore, ModelStoreError
from agent.adapters.state_file import StateFile
from agent.config import Config
from agent.core import events as ev
from agent.core.step import step
from agent.home import Home, HomeError
from transfer.bundle import BundleError

Answer = dict[str, Any]
DECIDED = {"cancel": ev.CancelOrdered, "resume": ev.ResumeOrdered}


def order(config: Config, action: str) -> Answer:
    """`rollback`, `cancel` or `resume`: {"accepted": action, ...} once it is durable, or {"error": why not}."""
    home = Home(config.state_dir)
    if not home.folder.is_dir():
        return {"error": f"{home.folder}: there is no such state folder; is it the right configuration?"}
    try:
        home.take()  # a daemon that is too busy to answer must not have its state changed beneath it
        try:
            answer = _roll_back(home) if action == "rollback" else _decide(home, config, action)
        finally:
            home.leave()
    except (HomeError, ModelStoreError, BundleError, OSError) as error:
        return {"error": str(error)}
    return answer if "error" in answer else {"accepted": action, "daemon": "not running", **answer}


def _roll_back(home: Home) -> Answer:
    """The pointer itself is the record: a round that was under way ends with the next start, for its model is gone."""
    return {"generation": ModelStore(home.folder).roll_back()}


def _decide(home: Home, config: Config, action: str) -> Answer:
    file = StateFile(home.state)
    state = file.load()
    if state is None or (action == "cancel" and state.round is None):
        return {"error": "no learning round is under way" if action == "cancel" else "there is no state yet"}
    # The commands that follow from it are owed by the state, as after any other end of the daemon.
    after, _ = step(state, DECIDED[action](0.0, f"offline-{time.time_ns()}"), config)
    file.save(after)
    if after.owed_rollback_to is not None:
        ModelStore(home.folder).roll_back(after.owed_rollback_to)
    return {}
