"""Reads the configuration: profile < file < environment < flag.

A key that does not exist is an error that names its path and its nearest neighbour.
"""

from __future__ import annotations

import dataclasses
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from agent.config import Config, ConfigError, contradictions, out_of_bounds

MAX_CONFIG_BYTES = 1024 * 1024
ENVIRONMENT_PREFIX = "UNDERSTUDY__"
PROFILES = Path(__file__).resolve().parent.parent / "firmware_profiles"
PROFILE_NOTES = ("about", "hardware")  # of a profile, for people: whom it is for, what it assumes


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
    faults += out_of_bounds(config)
    if not faults:
        # Only then: a mistyped key would show up here once more, as the value that it failed to set.
        faults = contradictions(config)
    if faults:
        where = f"{path}: " if path is not None else ""
        raise ConfigError("\n".join(where + fault for fault in faults))
    return config


def chosen_profile(
    path: Path | None, *, environment: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> str | None:
    """The profile that `load` would take with the same arguments. Raises ConfigError where the file is none."""
    chosen = {**_from_environment(environment or {}), **dict(flags or {})}
    profile = chosen.get("profile", _read_yaml(path).get("profile") if path is not None else None)
    return None if profile is None else str(profile)


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
    return {k: v for k, v in _read_yaml(PROFILES / f"{name}.yaml").items() if k not in PROFILE_NOTES}


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


def environment() -> dict[str, str]:
    return dict(os.environ)
