"""What `understudy agent status` shows: what it is doing, why not more, which model, how good, and what left."""

from __future__ import annotations

from typing import Any

from agent.adapters.model_store import ModelStore, ModelStoreError
from agent.adapters.state_file import StateFile
from agent.config import Config
from agent.home import Home

BOLD, DIM, PLAIN = "\033[1m", "\033[2m", "\033[0m"


def of_the_stopped(config: Config) -> dict[str, Any]:
    """The same facts, as far as they are on disk, where no daemon runs."""
    home = Home(config.state_dir)
    state = StateFile(home.state).peek()
    generation = None
    if (home.folder / "models").is_dir():  # asking must not make anything
        try:
            found = ModelStore(home.folder).active()
            generation = found[0] if found else None
        except (ModelStoreError, OSError):
            generation = None
    return {
        "online": False,
        "device": config.device.name,
        "phase": state.phase.value if state else "",
        "reason": "the daemon is not running; the round goes on when it is" if state and state.round else "",
        "generation": generation,
        "labels": list(state.models.labels) if state else [],
        "categories": list(state.round.wish.categories) if state and state.round else [],
        "privacy": config.privacy.mode,
    }


def render(status: dict[str, Any], *, colour: bool) -> str:
    """A few aligned lines for a person."""
    bold, dim, plain = (BOLD, DIM, PLAIN) if colour else ("", "", "")
    lines = [f"{bold}{status['device']}{plain}  {'running' if status.get('online') else 'not running'}"]

    def line(name: str, value: object) -> None:
        lines.append(f"  {dim}{name:<10}{plain} {value}")

    phase = status["phase"] or "unknown"
    categories = ", ".join(map(repr, status.get("categories", ())))
    line("doing", f"{phase} {categories}".rstrip())
    if status.get("reason"):
        line("because", status["reason"])
    if "progress" in status:
        done, total = status["progress"]["done"], status["progress"]["total"]
        line("training", f"{status['progress']['stage']} {done} of {total}")
    if status.get("wanted"):
        line("collected", f"{status['collected']} of {status['wanted']} samples")
    previous = f", previous {status['previous']}" if status.get("previous") else ""
    line("model", f"generation {status['generation']}{previous}: {', '.join(status['labels'])}")
    if "frames" in status:
        line("served", f"{status['frames']} frames, {status['novel_frames']} novel, {status['dropped_frames']} dropped")
        line("link", status["link"])
        line("buffer", f"{status['samples']} samples; {status['outbox_messages']} messages wait to be sent")
        line("machine", _reading(status["reading"]))
        sent = {name: tally for name, tally in status["egress"].items() if any(tally.values())}
        said = ", ".join(
            f"{name} {tally['allowed_bytes'] / 1000:.1f} kB out, {tally['denied_messages']} denied"
            for name, tally in sent.items()
        )
        line("privacy", f"{status['privacy']}: {said or 'nothing has left'}")
    else:
        line("privacy", status["privacy"])
    return "\n".join(lines)


def _reading(reading: dict[str, Any]) -> str:
    units = {
        "cpu_percent": "CPU {:.0f} %",
        "available_mib": "{:.0f} MiB free",
        "own_rss_mib": "daemon {:.0f} MiB",
        "temperature_c": "{:.0f} °C",
        "battery_percent": "battery {:.0f} %",
        "disk_free_mib": "disk {:.0f} MiB free",
    }
    return ", ".join(text.format(reading[key]) for key, text in units.items() if reading.get(key) is not None)
