"""The configuration: frozen dataclasses, and what is wrong with their values.

Every field's meaning and range are in its metadata, from which docs/configuration.md and `understudy agent show-config
--explain` are made. `agent.config_file` reads it.
"""

from __future__ import annotations

import dataclasses
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


class ConfigError(ValueError):
    """The configuration cannot be used; one line per fault, each with its path."""


def _says(default: Any, text: str) -> Any:
    return field(default=default, metadata={"says": text})


def _number(default: Any, between: tuple[float, float], text: str) -> Any:
    return field(default=default, metadata={"says": text, "between": between})


def _default_name() -> str:
    name = "".join(c if c.isalnum() or c in "_.-" else "-" for c in socket.gethostname())[:64]
    return name or "device"


@dataclass(frozen=True, slots=True)
class Device:
    name: str = field(default_factory=_default_name, metadata={"says": "this device's level in the topic tree"})
    fleet: str = _says("home", "the fleet it belongs to; triggers are published per fleet")
    prefix: str = _says("understudy", "first level of every topic")
    state_dir: str = _says("/var/lib/understudy", "everything that must survive: models, samples, state, keys")


@dataclass(frozen=True, slots=True)
class Source:
    kind: Literal["folder", "camera"] = _says("folder", "where images come from")
    folder: str = _says("", "folder to watch (kind folder); its subfolders are watched too")
    folder_labels: bool = _says(False, "an image in a subfolder is of the category that the subfolder is named after")
    camera: str = _says("", "V4L2 device (/dev/video0), rtsp:// URL or a video file (kind camera)")
    fps: float = _number(1.0, (0.001, 240), "frames a second taken from the camera")
    rescan_s: float = _number(
        30.0, (0.05, 86_400), "how often the folder is read whole, in case notifications were lost"
    )
    max_file_mib: float = _number(32.0, (0.001, 1024), "a larger file is refused unread")
    max_megapixels: float = _number(50.0, (0.001, 500), "a larger image is refused undecoded")


@dataclass(frozen=True, slots=True)
class Model:
    bundle: str = _says("", "bundle imported at the first start; later generations are learned or delivered")
    threads: int = _number(1, (1, 64), "inference threads; more collapse beside another job")
    trusted_keys: tuple[str, ...] = _says((), "Ed25519 public keys (hex) whose bundles may be used")


@dataclass(frozen=True, slots=True)
class Mqtt:
    host: str = _says("", "broker; empty = work without one")
    port: int = _number(1883, (1, 65_535), "its port; 8883 is usual with TLS")
    username: str = _says("", "name for the broker")
    password_file: str = _says("", "file whose first line is the password; never the password itself")
    tls: bool = _says(False, "encrypt; the system's authorities are used unless ca_file is given")
    ca_file: str = _says("", "certificate authority of the broker")
    cert_file: str = _says("", "this device's certificate, for mutual TLS")
    key_file: str = _says("", "its private key")
    keepalive_s: int = _number(30, (1, 3_600), "after two of these without an echo the link is rebuilt")
    max_message_bytes: int = _number(
        120_000, (2_000, 268_435_455), "largest payload published; the broker's own limit is respected too"
    )
    outbox_mib: float = _number(
        16.0, (0.1, 100_000), "what may wait on disk while the broker is away; the oldest goes first"
    )
    outbox_max_age_s: float = _number(
        604_800.0, (1, 1e8), "a message that has waited longer is given up: a week of powered-on time"
    )
    operator_keys: tuple[str, ...] = _says((), "Ed25519 public keys (hex) whose triggers and commands are obeyed")


@dataclass(frozen=True, slots=True)
class Privacy:
    mode: Literal["local", "teacher_download", "upload"] = _says(
        "local",
        "local: nothing made from an image leaves; teacher_download: the teacher comes here; upload: images go to it",
    )
    consent_to_upload: bool = _says(False, "must be true for mode upload: the owner of the images agrees")
    share_predictions: bool = _says(False, "publish each image's label; never done in mode local")


@dataclass(frozen=True, slots=True)
class Novelty:
    false_alarm_rate: float = _number(0.02, (0.0, 0.5), "share of known images that may be flagged as novel")
    buffer_share: float = _number(0.05, (0.0, 0.9), "share of known images that may be buffered as possibly new")
    group_images: int = _number(
        500, (0, 10_000), "images in a row that are looked at together for something new; 0 looks at none"
    )
    group_false_alarms: float = _number(
        0.001, (0.0, 0.5), "share of such groups of known images alone that may be taken to hold something new"
    )
    buffer_mib: float = _number(
        64.0, (0.1, 1_000_000), "disk for buffered samples; the commonest label's oldest goes first"
    )


@dataclass(frozen=True, slots=True)
class Training:
    tier: Literal["auto", "head", "sparse", "transfer"] = _says(
        "auto", "auto: transfer with a teacher, else sparse; head where torch is absent"
    )
    epochs: int = _number(4, (1, 1000), "passes over the new samples")
    views: int = _number(2, (1, 64), "augmented views of each sample that the teacher is asked about")
    batch_size: int = _number(64, (2, 4096), "samples a step")
    learning_rate: float = _number(3e-3, (1e-9, 10), "of the last convolutions; the classifier's is ten times it")
    threads: int = _number(0, (0, 256), "trainer threads; 0 = all cores but one, at least one")
    nice: int = _number(10, (0, 19), "the trainer's niceness")
    memory_mib: int = _number(0, (0, 1_000_000), "the trainer's memory, its data and its control group's; 0 = no limit")
    holdout_share: float = _number(
        0.2, (0.05, 0.5), "share of the new samples that judge the candidate instead of training it"
    )
    quantise: Literal["none", "dynamic_int8"] = _says("dynamic_int8", "weights of the candidate's .tflite")
    use_unlabelled: bool = _says(False, "samples whose category nobody knows train too, by the teacher's answer alone")
    min_samples: int = _number(20, (4, 100_000), "a round is not begun with fewer")
    collect_limit_s: float = _number(
        86_400.0, (1, 1e8), "collecting is given up (or done with what there is) after this"
    )
    teacher_timeout_s: float = _number(30.0, (0.1, 86_400), "the teacher is asked again after this, doubled each time")
    teacher_attempts: int = _number(6, (1, 1000), "then the round goes on without the teacher")
    admission_limit_s: float = _number(
        172_800.0, (1, 1e8), "a round that the budget has not admitted by then is given up"
    )
    time_limit_s: float = _number(3_600.0, (1, 1e8), "the trainer is stopped after this, pauses not counted")
    attempts: int = _number(3, (1, 100), "trainer failures in a row, without progress, that end the round")
    hang_s: float = _number(
        900.0, (1, 86_400), "a trainer without progress for so long is killed; it counts as an attempt"
    )
    failures: int = _number(3, (1, 1000), "rounds failed in a row after which none is begun until told to `resume`")
    cpu_percent: float = _number(0.0, (0, 100), "of the machine for the trainer, where cgroups allow it; 0 = no limit")
    backoff_s: float = _number(30.0, (0.0, 3_600), "wait after a failure, doubled each time, at most an hour")


@dataclass(frozen=True, slots=True)
class Budget:
    """When a round may train. Training pauses beyond a limit and goes on only when it is kept by `margin`."""

    max_cpu_percent: float = _number(
        95.0, (0.0, 100.0), "of the whole machine, before training starts (not while it trains)"
    )
    min_available_mib: float = _number(
        300.0,
        (0.0, 1_000_000),
        "memory that must be available, the daemon's own control groups included; training ends below it",
    )
    max_temperature_c: float = _number(75.0, (0.0, 150.0), "hottest thermal zone")
    min_battery_percent: float = _number(40.0, (0.0, 100.0), "where there is a battery and no charger")
    require_power: bool = _says(False, "train on the charger only")
    min_disk_free_mib: float = _number(
        200.0, (0.0, 1e9), "free on the state folder's file system; below, only state and reports are written"
    )
    min_free_inodes: int = _number(1_000, (0, 1e12), "free on it, where it counts them; below, the same")
    max_load_per_core: float = _number(4.0, (0.01, 1_000), "load average of a minute, before training starts")
    max_rss_mib: float = _number(0.0, (0, 1e6), "daemon and trainer together; beyond, training is ended; 0 = no limit")
    max_written_mib_a_day: float = _number(
        0.0,
        (0, 1e9),
        "written to the card in 24 hours of being on; beyond, no samples, no log, no training; 0 = no limit",
    )
    windows: tuple[str, ...] = _says((), "local times at which training may run, as 01:00-05:30; none = at any time")
    margin: float = _number(0.1, (0.0, 0.9), "hysteresis: share of a limit by which it must be kept to start or go on")
    sample_s: float = _number(5.0, (0.1, 3_600), "how often the machine is measured")


@dataclass(frozen=True, slots=True)
class Gate:
    max_old_drop: float = _number(0.02, (0.0, 1.0), "accuracy on held-out old images may fall by this at most")
    max_category_drop: float = _number(
        0.25,
        (0.0, 1.0),
        "one old category may lose this, and one image; a new one may stay so far below min_new's share",
    )
    min_new: float = _number(
        0.6, (0.0, 1.0), "accuracy on held-out new images must reach this share of the old categories'"
    )


@dataclass(frozen=True, slots=True)
class Probation:
    frames: int = _number(50, (1, 1_000_000), "served frames after which a promoted model is settled")
    limit_s: float = _number(600.0, (1, 1e8), "or after this time")
    min_frames: int = _number(20, (1, 1_000_000), "no verdict on fewer")
    max_novel_share: float = _number(0.6, (0.0, 1.0), "a larger share of novel frames rolls back")
    min_confidence: float = _number(0.3, (0.0, 1.0), "a lower mean confidence rolls back")
    probe_every_s: float = _number(60.0, (0.1, 86_400), "how often the held-out images are classified again")
    max_probe_misses: float = _number(0.02, (0, 1), "share of them that may get another label than when judged")


@dataclass(frozen=True, slots=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = _says("info", "of the daemon's log")
    format: Literal["auto", "json", "console"] = _says("auto", "auto: console on a terminal, else JSON lines")
    predictions_mib: float = _number(
        8.0, (0.001, 100_000), "size at which predictions.jsonl is rotated; two old ones are kept"
    )
    metrics_port: int = _number(0, (0, 65_535), "Prometheus reads metrics here, on this machine only; 0 = off")
    metrics_file: str = _says("", "Prometheus textfile, written every quarter of a minute (node_exporter's folder)")


@dataclass(frozen=True, slots=True)
class Config:
    device: Device = field(default_factory=Device)
    source: Source = field(default_factory=Source)
    model: Model = field(default_factory=Model)
    mqtt: Mqtt = field(default_factory=Mqtt)
    privacy: Privacy = field(default_factory=Privacy)
    novelty: Novelty = field(default_factory=Novelty)
    training: Training = field(default_factory=Training)
    budget: Budget = field(default_factory=Budget)
    gate: Gate = field(default_factory=Gate)
    probation: Probation = field(default_factory=Probation)
    log: Log = field(default_factory=Log)

    @property
    def state_dir(self) -> Path:
        return Path(self.device.state_dir).expanduser()


def parse_window(text: str) -> tuple[int, int] | None:
    """Minutes of the day at which it opens and closes; the second is the smaller one where midnight lies between.
    None where the text is no window."""
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", text, re.ASCII)
    if found is None:
        return None
    hour, minute, last_hour, last_minute = map(int, found.groups())
    opens, closes = 60 * hour + minute, 60 * last_hour + last_minute
    return None if opens == closes else (opens, closes)


def out_of_bounds(config: Config) -> list[str]:
    """Values that are wrong whatever the others are."""
    faults = []
    for each in dataclasses.fields(config):
        part = getattr(config, each.name)
        for field_ in dataclasses.fields(part):
            low, high = field_.metadata.get("between", (0, 0))
            value = getattr(part, field_.name)
            if "between" in field_.metadata and not low <= value <= high:
                dotted = f"{each.name}.{field_.name}"
                faults.append(f"{dotted}: must be between {low:g} and {high:g}, found {value!r}")
    for key in ("name", "fleet", "prefix"):
        value = getattr(config.device, key)
        if not value or len(value) > 64 or not all(c.isascii() and (c.isalnum() or c in "_.-") for c in value):
            faults.append(f"device.{key}: letters, digits, '_', '.', '-' only, 1 to 64 of them, found {value!r:.80}")
    for section, key in (("model", "trusted_keys"), ("mqtt", "operator_keys")):
        for value in getattr(getattr(config, section), key):
            if len(value) != 64 or any(c not in "0123456789abcdef" for c in value):
                faults.append(f"{section}.{key}: an Ed25519 public key is 64 hex digits, found {value!r:.80}")
    return faults


def contradictions(config: Config) -> list[str]:
    """What no single value shows."""
    faults = []
    if config.novelty.buffer_share < config.novelty.false_alarm_rate:
        faults.append("novelty.buffer_share: must not be below novelty.false_alarm_rate: what is flagged is kept")
    for window in config.budget.windows:
        if parse_window(window) is None:
            faults.append(f"budget.windows: expected HH:MM-HH:MM, such as 22:30-05:00, found {window!r:.80}")
    if config.source.kind == "folder" and not config.source.folder:
        faults.append("source.folder: needed with source.kind folder: the folder to watch")
    if config.source.kind == "camera" and not config.source.camera:
        faults.append("source.camera: needed with source.kind camera: /dev/video0, an rtsp:// URL or a video file")
    if config.privacy.mode == "upload" and not config.privacy.consent_to_upload:
        faults.append(
            "privacy.consent_to_upload: mode upload sends images to the teacher; set it to true to agree, "
            "or choose mode teacher_download or local"
        )
    if config.privacy.mode == "local" and config.privacy.share_predictions:
        faults.append("privacy.share_predictions: a label is made from an image, and mode local lets nothing leave")
    if config.privacy.mode != "local" and not config.mqtt.host:
        faults.append(f"mqtt.host: privacy.mode {config.privacy.mode} needs a broker")
    if config.mqtt.host and not config.mqtt.operator_keys:
        faults.append("mqtt.operator_keys: whose triggers are obeyed? `understudy fleet keygen` makes a key")
    if config.probation.min_frames > config.probation.frames:
        faults.append(
            f"probation.min_frames: {config.probation.min_frames} is never reached, the model is settled "
            f"after probation.frames {config.probation.frames}"
        )
    return faults


def as_document(config: Config) -> dict[str, Any]:
    """The configuration as plain values, for show-config."""
    return {s.name: dataclasses.asdict(getattr(config, s.name)) for s in dataclasses.fields(Config)}
