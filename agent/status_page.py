"""The page of `understudy agent status`: what it is doing, why not more, which model this is, how good, what left."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import Any

BOLD, DIM, GREEN, YELLOW, RED, PLAIN = "\033[1m", "\033[2m", "\033[32m", "\033[33m", "\033[31m", "\033[0m"
NARROWEST, WIDEST = 40, 100
NAME_WIDTH = 10
BAR = 24
MOST_LABELS = 24

Status = dict[str, Any]
Line = tuple[str, str, str]
"""Name, value, and the colour of the value, "" for none."""


def render(status: Status, *, colour: bool, width: int = 80) -> str:
    """Aligned lines for a person, none wider than `width`; colour adds nothing but colour."""
    if "error" in status:
        return f"the daemon cannot say: {status['error']}"
    paint = _paint if colour else lambda text, code: text
    word, code = _word(status)
    lines = [f"{paint(status['device'], BOLD)}  {paint(word, code)}"]
    room = max(NARROWEST, min(width, WIDEST)) - NAME_WIDTH - 3
    for name, value, code in _lines(status):
        parts = textwrap.wrap(value, room, break_on_hyphens=False) or [""]
        for number, part in enumerate(parts):
            label = paint(f"{'' if number else name:<{NAME_WIDTH}}", DIM)
            lines.append(f"  {label} {paint(part, code) if code else part}")
    return "\n".join(lines)


def summary(status: Status) -> str:
    """The page in a line, for where there is no page: what it is doing, why, and with which model."""
    if "error" in status:
        return f"the daemon cannot say: {status['error']}"
    parts = [_doing(status), status.get("reason") or "", *(value for _, value, _ in _progress(status))]
    return f"{' | '.join(part for part in parts if part)} | generation {status['generation']}"


def _paint(text: str, code: str) -> str:
    return f"{code}{text}{PLAIN}"


def _word(status: Status) -> tuple[str, str]:
    if not status.get("online"):
        return "not running", RED
    if status.get("serving") is False:
        return "running, but not serving", RED
    return "running", GREEN


def _lines(status: Status) -> Iterator[Line]:
    yield "doing", _doing(status), ""
    if status.get("reason"):
        yield "because", status["reason"], YELLOW if status["phase"] != "idle" else ""
    elif status["phase"] == "idle" and not status.get("waiting_triggers"):
        yield "because", "nobody has asked for a new category", ""
    yield from _progress(status)
    yield from _rounds(status)
    yield from _model(status)
    if "frames" in status:
        yield from _service(status)
        yield "privacy", f"{status['privacy']}: {_egress(status['egress'])}", ""
    else:
        yield "privacy", status["privacy"], ""


def _doing(status: Status) -> str:
    return f"{status['phase'] or 'unknown'} {_quoted(status.get('categories', ()))}".rstrip()


def _progress(status: Status) -> Iterator[Line]:
    if "progress" in status:
        stage, done, total = (status["progress"][key] for key in ("stage", "done", "total"))
        filled = round(BAR * min(1.0, done / total)) if total else 0
        yield "progress", f"{stage} {done} of {total} [{'#' * filled}{'.' * (BAR - filled)}]", ""
    if status.get("wanted"):
        yield "collected", f"{status['collected']} of {status['wanted']} samples", ""


def _rounds(status: Status) -> Iterator[Line]:
    waiting = status.get("waiting_triggers") or []
    if waiting:
        yield "waiting", "; ".join(_quoted(categories) for categories in waiting), ""
    last = status.get("last_round")
    if last:
        good = last["state"] == "SUCCEEDED"
        detail = f" ({last['detail']})" if last["detail"] else ""
        yield "last round", f"{last['state']} {_quoted(last['categories'])}{detail}", GREEN if good else YELLOW
    if status.get("failures"):
        yield "failed", f"{status['failures']} rounds in a row", YELLOW


def _model(status: Status) -> Iterator[Line]:
    previous = f", previous {status['previous']}" if status.get("previous") else ""
    if status.get("rolling_back_to") is not None:
        previous += f"; going back to {status['rolling_back_to']}"
    labels = list(status["labels"])
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    yield "model", f"generation {status['generation']}{previous}: {', '.join(labels[:MOST_LABELS])}{more}", ""
    model = status.get("model")
    if not model:
        return
    source = f"a round here{_of(model['learned'])}" if model["from"] == "round" else f"the bundle {model['name']}"
    since = f", since {_date(model['at_utc'])}" if model["at_utc"] else ""
    yield "from", f"{source}{since}; digest {model['digest'][:12]}", ""
    judged = [*_scores(model["scores"] or {})]
    if model["golden"]:
        judged.append(f"{model['golden_right']} of {model['golden']} held-out images right")
    if judged:
        yield "judged", "; ".join(judged), ""
    if status.get("probes_missed"):
        yield "probes", f"{status['probes_missed']} of {status['probes']} answered otherwise than when judged", RED
    live = status.get("live") or {}
    if live.get("frames"):
        novel, sure = live["novel_frames"] / live["frames"], live["mean_confidence"]
        yield "live", f"{live['frames']} frames: {novel:.0%} novel, mean confidence {sure:.2f}", ""
    noticed = status.get("noticed")
    if noticed:
        looks = f"{noticed['novel']} of {noticed['images']} images in a row look new"
        yield "noticed", f"{looks}; known ones alone do so in 1 of {1 / noticed['chance']:,.0f} such groups", YELLOW


def _scores(scores: dict[str, Any]) -> Iterator[str]:
    for kind in ("old", "new"):
        after, before = scores.get(f"{kind}_after"), scores.get(f"{kind}_before")
        if after is not None:
            was = f" (before {before:.1%})" if before is not None else ""
            yield f"{kind} categories {after:.1%}{was}"


def _service(status: Status) -> Iterator[Line]:
    counts = f"{status['frames']} frames, {status['novel_frames']} novel, {status['dropped_frames']} dropped"
    errors = status.get("errors") or 0
    yield "served", counts + (f", {errors} not classified" if errors else ""), RED if errors else ""
    why = f": {status['link_reason']}" if status.get("link_reason") else ""
    yield "link", status["link"] + why, YELLOW if status["link"] == "down" else ""
    lost = sum((status.get("outbox_dropped") or {}).values())
    given_up = f", {lost} were given up" if lost else ""
    waiting = f"{status['samples']} samples; {status['outbox_messages']} messages wait to be sent{given_up}"
    yield "buffer", waiting, YELLOW if lost else ""
    yield "machine", _reading(status["reading"]), ""
    if status.get("trainer_uncontained"):
        yield "trainer", f"without a control group of its own: {status['trainer_uncontained']}", ""
    if status.get("sparing"):
        yield "sparing", f"{status['sparing']}: nothing but state and reports is written", YELLOW
    for name, says in (("not_written", "left out"), ("disk_refused", "refused by the disk")):
        if status.get(name):
            told = ", ".join(f"{count} {what}" for what, count in status[name].items())
            yield "unwritten", f"{says}: {told}", YELLOW


def _egress(egress: dict[str, dict[str, int]]) -> str:
    said = [
        f"{name} {tally['allowed_bytes'] / 1000:.1f} kB out, {tally['denied_messages']} denied"
        for name, tally in egress.items()
        if any(tally.values())
    ]
    return ", ".join(said) or "nothing has left"


def _reading(reading: dict[str, Any]) -> str:
    units = {
        "cpu_percent": "CPU {:.0f} %",
        "load_per_core": "load per core {:.1f}",
        "available_mib": "{:.0f} MiB free",
        "own_rss_mib": "daemon {:.0f} MiB",
        "trainer_rss_mib": "trainer {:.0f} MiB",
        "temperature_c": "{:.0f} °C",
        "battery_percent": "battery {:.0f} %",
        "disk_free_mib": "disk {:.0f} MiB free",
        "written_today_mib": "{:.1f} MiB written in a day",
    }
    return ", ".join(text.format(reading[key]) for key, text in units.items() if reading.get(key) is not None)


def _quoted(categories: Sequence[str]) -> str:
    return ", ".join(map(repr, categories))


def _of(categories: Sequence[str]) -> str:
    return f" that learned {_quoted(categories)}" if categories else ""


def _date(at_utc: float) -> str:
    """By the device's clock, which may never have been set."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_utc))
