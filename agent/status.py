"""What `understudy agent status` can say of a daemon that does not run: the same facts, as far as they are on disk."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.adapters.judgements import Judgements, facts
from agent.adapters.model_store import ModelStore, ModelStoreError
from agent.adapters.state_file import StateFile
from agent.config import Config
from agent.home import Home
from transfer.bundle import BundleError


def of_the_stopped(config: Config) -> dict[str, Any]:
    """Nothing is changed by asking. Raises PermissionError."""
    home = Home(config.state_dir)
    state = StateFile(home.state).peek()
    status: dict[str, Any] = {
        "online": False,
        "device": config.device.name,
        "phase": state.phase.value if state else "",
        "reason": "the daemon is not running; the round goes on when it is" if state and state.round else "",
        "labels": list(state.models.labels) if state else [],
        "categories": list(state.round.wish.categories) if state and state.round else [],
        "waiting_triggers": [list(wish.categories) for wish in state.waiting] if state else [],
        "failures": state.failures if state else 0,
        "last_round": msgspec.to_builtins(state.last_ending.report) if state and state.last_ending else None,
        "privacy": config.privacy.mode,
    }
    return status | _model(home)


def _model(home: Home) -> dict[str, Any]:
    unknown: dict[str, Any] = {"generation": None, "previous": None, "model": None}
    if not (home.folder / "models").is_dir():  # asking must not make anything
        return unknown
    try:
        store = ModelStore(home.folder)
        active, previous = store.active(), store.previous()
        if active is None:
            return unknown
        known = {"generation": active[0], "previous": previous[0] if previous else None}
        found = store.load(active[0])
        judgement = Judgements(home.judgements).of(found.digest)
        model = facts(found.manifest, found.digest, judgement)
        return {**known, "model": model, "labels": list(found.manifest.labels)}
    except (ModelStoreError, OSError):
        return unknown
    except BundleError as error:
        return {**known, "model": None, "reason": f"the active model is damaged; the next start repairs it: {error}"}
