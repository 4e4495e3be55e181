"""The configuration: frozen dataclasses, parsed with profile < file < environment < flag.

A key that does not exist is an error that names its path and its nearest neighbour. Every field's meaning is in its
metadata, from which docs/configuration.md and `understudy agent show-config --explain` are made.
"""

from __future__ import annotations

import dataclasses
import os
import reprlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

import msgspec

MAX_CONFIG_BYTES = 1024 * 1024
ENVIRONMENT_PREFIX = "UNDERSTUDY__"
PROFILES = Path(__file__).resolve().parent.parent / "firmware_profiles"

T = TypeVar("T")


class ConfigError(ValueError):
    """The configuration cannot be used; one line per fault, each with its path."""


def _says(default: Any, text: str) -> Any:
    return field(default=default, metadata={"says": text})


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
    fps: float = _says(1.0, "frames a second taken from the camera")
    rescan_s: float = _says(30.0, "how often the folder is read whole, in case notifications were lost")
    max_file_mib: float = _says(32.0, "a larger file is refused unread")
    max_megapixels: float = _says(50.0, "a larger image is refused undecoded")


@dataclass(frozen=True, slots=True)
class Model:
    bundle: str = _says("", "bundle imported at the first start; later generations are learned or delivered")
    threads: int = _says(1, "inference threads; more collapse beside another job")
    trusted_keys: tuple[str, ...] = _says((), "Ed25519 public keys (hex) whose bundles may be used")


@dataclass(frozen=True, slots=True)
class Mqtt:
    host: str = _says("", "broker; empty = work without one")
    port: int = _says(1883, "its port; 8883 is usual with TLS")
    username: str = _says("", "name for the broker")
    password_file: str = _says("", "file whose first line is the password; never the password itself")
    tls: bool = _says(False, "encrypt; the system's authorities are used unless ca_file is given")
    ca_file: str = _says("", "certificate authority of the broker")
    cert_file: str = _says("", "this device's certificate, for mutual TLS")
    key_file: str = _says("", "its private key")
    keepalive_s: int = _says(30, "after two of these without an echo the link is rebuilt")
    max_message_bytes: int = _says(120_000, "largest payload published; the broker's own limit is respected too")
    outbox_mib: float = _says(16.0, "what may wait on disk while the broker is away; the oldest goes first")
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
    false_alarm_rate: float = _says(0.02, "share of known images that may be flagged as novel")
    buffer_share: float = _says(0.05, "share of known images that may be buffered as possibly new")
    buffer_mib: float = _says(64.0, "disk for buffered samples; the commonest label's oldest goes first")


@dataclass(frozen=True, slots=True)
class Training:
    tier: Literal["auto", "head", "sparse", "transfer"] = _says(
        "auto", "auto: transfer with a teacher, else sparse; head where torch is absent"
    )
    epochs: int = _says(4, "passes over the new samples")
    views: int = _says(2, "augmented views of each sample that the teacher is asked about")
    batch_size: int = _says(64, "samples a step")
    learning_rate: float = _says(3e-3, "of the last convolutions; the classifier's is ten times it")
    threads: int = _says(0, "trainer threads; 0 = all cores but one, at least one")
    nice: int = _says(10, "the trainer's niceness")
    memory_mib: int = _says(0, "data the trainer may allocate; 0 = no limit")
    holdout_share: float = _says(0.2, "share of the new samples that judge the candidate instead of training it")
    quantise: Literal["none", "dynamic_int8"] = _says("dynamic_int8", "weights of the candidate's .tflite")
    use_unlabelled: bool = _says(False, "samples whose category nobody knows train too, by the teacher's answer alone")
    min_samples: int = _says(20, "a round is not begun with fewer")
    collect_limit_s: float = _says(86_400.0, "collecting is given up (or done with what there is) after this")
    teacher_timeout_s: float = _says(30.0, "the teacher is asked again after this, doubled each time")
    teacher_attempts: int = _says(6, "then the round goes on without the teacher")
    admission_limit_s: float = _says(172_800.0, "a round that the budget has not admitted by then is given up")
    time_limit_s: float = _says(3_600.0, "the trainer is stopped after this")
    attempts: int = _says(3, "trainer failures in a row, without progress, that end the round")
    backoff_s: float = _says(30.0, "wait after a failure, doubled each time, at most an hour")


@dataclass(frozen=True, slots=True)
class Budget:
    """When a round may train. Training pauses beyond a limit and goes on only when it is kept by `margin`."""

    max_cpu_percent: float = _says(95.0, "of the whole machine, before training starts (not while it trains)")
    min_available_mib: float = _says(300.0, "memory that must be available")
    max_temperature_c: float = _says(75.0, "hottest thermal zone")
    min_battery_percent: float = _says(40.0, "where there is a battery and no charger")
    require_power: bool = _says(False, "train on the charger only")
    min_disk_free_mib: float = _says(200.0, "free on the state folder's file system")
    margin: float = _says(0.1, "hysteresis: share of a limit by which it must be kept to start or go on")
    sample_s: float = _says(5.0, "how often the machine is measured")


@dataclass(frozen=True, slots=True)
class Gate:
    max_old_drop: float = _says(0.02, "accuracy on held-out old images may fall by this at most")
    max_category_drop: float = _says(
        0.25, "one old category may lose this, and one image; a new one may stay so far below min_new's share"
    )
    min_new: float = _says(0.6, "accuracy on held-out new images must reach this share of the old categories'")


@dataclass(frozen=True, slots=True)
class Probation:
    frames: int = _says(50, "served frames after which a promoted model is settled")
    limit_s: float = _says(600.0, "or after this time")
    min_frames: int = _says(20, "no verdict on fewer")
    max_novel_share: float = _says(0.6, "a larger share of novel frames rolls back")
    min_confidence: float = _says(0.3, "a lower mean confidence rolls back")


@dataclass(frozen=True, slots=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = _says("info", "of the daemon's log")
    format: Literal["auto", "json", "console"] = _says("auto", "auto: console on a terminal, else JSON lines")
    predictions_mib: float = _says(8.0, "size at which predictions.jsonl is rotated; two old ones are kept")


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


def load(
    path: Path | None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Config:
    """The configuration from a YAML file (may name a `profile`), the environment and `section.key` flags.

    Raises ConfigError listing every fault with its path and, for an unknown key, the nearest known one.
    """
    document = _read_yaml(path) if path is not None else {}
    chosen = {**_from_environment(environment or {}), **dict(flags or {})}
    in_file = document.pop("profile", None)
    profile = chosen.pop("profile", in_file)
    layers = [("file", document), ("environment or flag", _nest(chosen))]
    if profile is not None:
        layers.insert(0, (f"profile {profile}", _read_profile(str(profile))))
    merged: dict[str, Any] = {}
    faults: list[str] = []
    for origin, layer in layers:
        _merge(merged, layer, origin, faults)
    config = Config(**_build_sections(merged, faults))
    faults += _out_of_bounds(config)
    if not faults:
        # Only then: a mistyped key would show up here once more, as the value that it failed to set.
        faults = _contradictions(config)
    if faults:
        where = f"{path}: " if path is not None else ""
        raise ConfigError("\n".join(where + fault for fault in faults))
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; is this the right file?")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8: {error}") from None
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or number that cannot be
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected sections such as `source:`, found {type(document).__name__}")
    return document


def profile_names() -> list[str]:
    return sorted(p.stem for p in PROFILES.glob("*.yaml"))


def _read_profile(name: str) -> dict[str, Any]:
    if name not in profile_names():
        raise ConfigError(f"profile: there is no {name!r}{_nearest(name, profile_names())}")
    return {k: v for k, v in _read_yaml(PROFILES / f"{name}.yaml").items() if k != "about"}


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """UNDERSTUDY__SECTION__KEY=value, as in UNDERSTUDY__MQTT__HOST=broker.lan."""
    return {
        name[len(ENVIRONMENT_PREFIX) :].lower().replace("__", "."): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for dotted, value in flat.items():
        section, _, key = dotted.partition(".")
        content = nested.setdefault(section, {})
        if not key:
            nested[section] = value  # a section given a value: _merge says what is wrong with that
        elif isinstance(content, dict):
            content[key] = value
    return nested


def _shown(value: Any) -> str:
    """What was found, for a message. Not repr: aliases make a small YAML file into an immense value."""
    return reprlib.repr(value)[:60]


def _nearest(name: str, known: list[str]) -> str:
    import difflib  # by whoever mistypes, not by a daemon for months

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _merge(merged: dict[str, Any], layer: Mapping[str, Any], origin: str, faults: list[str]) -> None:
    sections = {f.name: f.default_factory for f in dataclasses.fields(Config)}
    for section, content in layer.items():
        if section not in sections:
            faults.append(f"{section}: unknown section ({origin}){_nearest(str(section), list(sections))}")
            continue
        if not isinstance(content, dict):
            faults.append(f"{section}: expected keys, found {_shown(content)} ({origin})")
            continue
        known = [f.name for f in dataclasses.fields(sections[section])]  # type: ignore[arg-type]
        for key, value in content.items():
            if key not in known:
                faults.append(f"{section}.{key}: unknown key ({origin}){_nearest(str(key), known)}")
            else:
                merged.setdefault(section, {})[key] = value


def _build_sections(merged: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for section in dataclasses.fields(Config):
        kind: Any = section.default_factory
        hints = get_type_hints(kind)
        fields: dict[str, Any] = {}
        for key, value in merged.get(section.name, {}).items():
            try:
                fields[key] = _convert(value, hints[key])
            except msgspec.ValidationError as error:
                faults.append(f"{section.name}.{key}: {error}, found {_shown(value)}")
        values[section.name] = kind(**fields)
    return values


def _convert(value: Any, kind: Any) -> Any:
    if isinstance(value, str) and kind == tuple[str, ...]:
        value = [part.strip() for part in value.split(",") if part.strip()]
    # Strings come from the environment and flags, where "2" is a number; in YAML a quoted number is forgiven too.
    return msgspec.convert(value, kind, strict=not isinstance(value, str))


_RANGES: dict[str, tuple[float, float]] = {
    "source.fps": (0.001, 240),
    "source.rescan_s": (0.05, 86_400),
    "source.max_file_mib": (0.001, 1024),
    "source.max_megapixels": (0.001, 500),
    "model.threads": (1, 64),
    "mqtt.port": (1, 65_535),
    "mqtt.keepalive_s": (1, 3_600),
    "mqtt.max_message_bytes": (2_000, 268_435_455),
    "mqtt.outbox_mib": (0.1, 100_000),
    "novelty.false_alarm_rate": (0.0, 0.5),
    "novelty.buffer_share": (0.0, 0.9),
    "novelty.buffer_mib": (0.1, 1_000_000),
    "training.epochs": (1, 1000),
    "training.views": (1, 64),
    "training.batch_size": (2, 4096),
    "training.learning_rate": (1e-9, 10),
    "training.threads": (0, 256),
    "training.nice": (0, 19),
    "training.memory_mib": (0, 1_000_000),
    "training.holdout_share": (0.05, 0.5),
    "training.min_samples": (4, 100_000),
    "training.collect_limit_s": (1, 1e8),
    "training.teacher_timeout_s": (0.1, 86_400),
    "training.teacher_attempts": (1, 1000),
    "training.admission_limit_s": (1, 1e8),
    "training.time_limit_s": (1, 1e8),
    "training.attempts": (1, 100),
    "training.backoff_s": (0.0, 3_600),
    "budget.max_cpu_percent": (0.0, 100.0),
    "budget.min_available_mib": (0.0, 1_000_000),
    "budget.max_temperature_c": (0.0, 150.0),
    "budget.min_battery_percent": (0.0, 100.0),
    "budget.min_disk_free_mib": (0.0, 1e9),
    "budget.margin": (0.0, 0.9),
    "budget.sample_s": (0.1, 3_600),
    "gate.max_old_drop": (0.0, 1.0),
    "gate.max_category_drop": (0.0, 1.0),
    "gate.min_new": (0.0, 1.0),
    "probation.frames": (1, 1_000_000),
    "probation.limit_s": (1, 1e8),
    "probation.min_frames": (1, 1_000_000),
    "probation.max_novel_share": (0.0, 1.0),
    "probation.min_confidence": (0.0, 1.0),
    "log.predictions_mib": (0.001, 100_000),
}


def _out_of_bounds(config: Config) -> list[str]:
    """Values that are wrong whatever the others are."""
    faults = []
    for dotted, (low, high) in _RANGES.items():
        section, key = dotted.split(".")
        value = getattr(getattr(config, section), key)
        if not low <= value <= high:
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


def _contradictions(config: Config) -> list[str]:
    """What no single value shows."""
    faults = []
    if config.novelty.buffer_share < config.novelty.false_alarm_rate:
        faults.append("novelty.buffer_share: must not be below novelty.false_alarm_rate: what is flagged is kept")
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


def environment() -> dict[str, str]:
    return dict(os.environ)
