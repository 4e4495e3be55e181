"""The daemon's description as Prometheus reads it: text format 0.0.4, names with their units, HELP and TYPE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agent.core.state import Phase

MIB = 2**20

Status = Mapping[str, Any]
Labels = Mapping[str, str]
Sample = tuple[Labels, float | None]
"""A value under its labels; None is left out: what this machine cannot measure has no figure."""


@dataclass(frozen=True)
class Metric:
    """`samples`: from the description, as `agent.description` gives it."""

    name: str
    kind: Literal["counter", "gauge"]
    says: str
    samples: Callable[[Status], Iterator[Sample]]


def exposition(status: Status) -> str:
    """All that has a value now."""
    lines = []
    for metric in METRICS:
        found = [(labels, value) for labels, value in metric.samples(status) if value is not None]
        if found:
            lines += [f"# HELP {metric.name} {metric.says}", f"# TYPE {metric.name} {metric.kind}"]
            lines += [f"{metric.name}{_braced(labels)} {float(value):.10g}" for labels, value in found]
    return "\n".join(lines) + "\n"


def _braced(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


# ------------------------------------------------------------------------------------------------ where values are


def _at(*path: str, times: float = 1.0) -> Callable[[Status], Iterator[Sample]]:
    """The value under these keys, None where one is missing on the way."""

    def samples(status: Status) -> Iterator[Sample]:
        found: Any = status
        for key in path:
            found = found.get(key) if found else None
        yield {}, None if found is None else float(found) * times

    return samples


def _each(label: str, *path: str) -> Callable[[Status], Iterator[Sample]]:
    """The numbers of a mapping, each under `label`."""

    def samples(status: Status) -> Iterator[Sample]:
        found: Any = status
        for key in path:
            found = (found or {}).get(key)
        for name, value in (found or {}).items():
            yield {label: name}, value

    return samples


def _phases(status: Status) -> Iterator[Sample]:
    for phase in Phase:
        yield {"phase": phase.value}, float(status["phase"] == phase.value)


def _model(status: Status) -> Iterator[Sample]:
    model = status["model"]
    yield {"name": model["name"], "digest": model["digest"], "from": model["from"]}, 1.0


def _accuracy(status: Status) -> Iterator[Sample]:
    scores = status["model"]["scores"] or {}
    for kind in ("old", "new"):
        yield {"categories": kind}, scores.get(f"{kind}_after")


def _novel_share(status: Status) -> Iterator[Sample]:
    live = status["live"]
    yield {}, live["novel_frames"] / live["frames"] if live["frames"] else None


def _confidence(status: Status) -> Iterator[Sample]:
    yield {}, status["live"]["mean_confidence"] if status["live"]["frames"] else None


def _noticed(status: Status) -> Iterator[Sample]:
    yield {}, float(status["noticed"] is not None)


def _progress(status: Status) -> Iterator[Sample]:
    progress = status.get("progress")
    yield {}, progress["done"] / progress["total"] if progress and progress["total"] else None


def _resident(status: Status) -> Iterator[Sample]:
    for process, key in (("daemon", "own_rss_mib"), ("trainer", "trainer_rss_mib")):
        mib = status["reading"][key]
        yield {"process": process}, None if mib is None else mib * MIB


def _egress(column: str) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for kind, tally in status["egress"].items():
            yield {"kind": kind}, tally[column]

    return samples


METRICS = (
    Metric("understudy_frames_total", "counter", "Images classified since the start.", _at("frames")),
    Metric("understudy_novel_frames_total", "counter", "Of them flagged as novel.", _at("novel_frames")),
    Metric("understudy_dropped_frames_total", "counter", "Images a camera gave too fast.", _at("dropped_frames")),
    Metric("understudy_frame_errors_total", "counter", "Images that could not be classified.", _at("errors")),
    Metric("understudy_serving", "gauge", "1 while images are taken in, classified and recorded.", _at("serving")),
    Metric("understudy_generation", "gauge", "Number of the model that serves.", _at("generation")),
    Metric("understudy_model_info", "gauge", "Always 1; the labels say which model serves.", _model),
    Metric("understudy_accuracy_ratio", "gauge", "Of the model, when it was judged here.", _accuracy),
    Metric("understudy_live_novel_ratio", "gauge", "Share of novel images among those it served.", _novel_share),
    Metric("understudy_live_confidence_ratio", "gauge", "Mean confidence on those it served.", _confidence),
    Metric("understudy_noticed", "gauge", "1 while groups of images show something new.", _noticed),
    Metric("understudy_golden_images", "gauge", "Held-out images it is asked about.", _at("probes")),
    Metric("understudy_golden_missed", "gauge", "Of them answered otherwise than when judged.", _at("probes_missed")),
    Metric("understudy_phase", "gauge", "1 for the phase that the round is in.", _phases),
    Metric("understudy_training_progress_ratio", "gauge", "Of the trainer's present stage.", _progress),
    Metric("understudy_rounds_begun_total", "counter", "Rounds begun in the life of the device.", _at("rounds_begun")),
    Metric("understudy_failed_rounds", "gauge", "Rounds failed in a row.", _at("failures")),
    Metric("understudy_samples", "gauge", "Images buffered to learn from.", _at("samples")),
    Metric("understudy_link_up", "gauge", "1 while there is a link to the broker.", _at("connected")),
    Metric("understudy_outbox_messages", "gauge", "Messages that wait to be sent.", _at("outbox_messages")),
    Metric("understudy_outbox_bytes", "gauge", "Their bytes on disk.", _at("outbox_bytes")),
    Metric("understudy_outbox_dropped_total", "counter", "Messages given up.", _each("why", "outbox_dropped")),
    Metric("understudy_live_dropped_total", "counter", "Messages not kept while offline.", _at("live_dropped")),
    Metric("understudy_egress_bytes_total", "counter", "Bytes let out.", _egress("allowed_bytes")),
    Metric("understudy_egress_denied_total", "counter", "Messages held back by privacy.", _egress("denied_messages")),
    Metric(
        "understudy_written_day_bytes",
        "gauge",
        "Written to the disk in the last 24 hours.",
        _at("reading", "written_today_mib", times=MIB),
    ),
    Metric("understudy_not_written_total", "counter", "Left out to spare the card.", _each("what", "not_written")),
    Metric("understudy_disk_refused_total", "counter", "Writes the disk refused.", _each("what", "disk_refused")),
    Metric("understudy_resident_memory_bytes", "gauge", "Resident memory.", _resident),
    Metric(
        "understudy_available_memory_bytes", "gauge", "Memory to be had.", _at("reading", "available_mib", times=MIB)
    ),
    Metric("understudy_disk_free_bytes", "gauge", "Free for the state.", _at("reading", "disk_free_mib", times=MIB)),
    Metric("understudy_cpu_ratio", "gauge", "Of the whole machine.", _at("reading", "cpu_percent", times=0.01)),
    Metric("understudy_load_per_core", "gauge", "Load average of a minute.", _at("reading", "load_per_core")),
    Metric("understudy_temperature_celsius", "gauge", "Hottest thermal zone.", _at("reading", "temperature_c")),
    Metric("understudy_battery_ratio", "gauge", "Charge.", _at("reading", "battery_percent", times=0.01)),
    Metric("understudy_on_power", "gauge", "1 with a charger.", _at("reading", "on_power")),
)
