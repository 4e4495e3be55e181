"""Writes docs/configuration.md from the dataclasses of agent.config: `python -m docs.make_configuration [--check]`.

The reference is made from the very metadata that the daemon parses by, so the two cannot disagree for long: a test
and `--check` (exit status 1) say when the file is stale.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from agent.config import Config
from agent.config_file import ENVIRONMENT_PREFIX, MAX_CONFIG_BYTES, PROFILES, profile_names

TARGET = Path(__file__).resolve().parent / "configuration.md"

PREFACE = f"""# Configuration

Made by `make docs` from `agent/config.py`. Change it there, not here.

The daemon reads one YAML file of sections and keys, at most {MAX_CONFIG_BYTES // 1024} KiB. A later layer wins:

1. the defaults below
2. a profile: `profile: raspberry-pi-5` at the top of the file, or `--profile raspberry-pi-5`
3. the file: `--config agent.yaml`
4. the environment: `{ENVIRONMENT_PREFIX}MQTT__HOST=broker.lan`
5. flags: `--set mqtt.host=broker.lan`

A key that does not exist is an error. It is named with the nearest key that does exist. All faults are listed at once.

- `understudy agent check-config --config FILE` says what is wrong.
- `understudy agent show-config --explain --config FILE` shows what the daemon would use, and why.

`~` stands for the user's home wherever a path is expected. In the environment and in flags a list is written with
commas.
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m docs.make_configuration", description="Print the reference of all configuration keys."
    )
    parser.add_argument("--check", action="store_true", help="exit 1 when docs/configuration.md is stale")
    wanted = render()
    if not parser.parse_args(argv).check:
        print(wanted, end="")
        return 0
    found = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
    if found == wanted:
        return 0
    changes = difflib.unified_diff(found.splitlines(), wanted.splitlines(), "on disk", "made now", lineterm="", n=0)
    print("\n".join(changes), file=sys.stderr)
    print(f"docs/{TARGET.name} is stale: run `make docs`", file=sys.stderr)
    return 1


def render() -> str:
    """The whole page."""
    return "\n".join([PREFACE, *(_section(field) for field in dataclasses.fields(Config)), _profiles()])


def _section(section: dataclasses.Field[Any]) -> str:
    kind: Any = section.default_factory
    hints = get_type_hints(kind)
    lines = [f"## {section.name}", ""]
    if not kind.__doc__.startswith(f"{kind.__name__}("):  # what dataclass writes where nobody wrote anything
        lines += [kind.__doc__, ""]
    lines += ["| key | type | default | range | meaning |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(kind):
        cells = [
            f"`{field.name}`",
            _type(hints[field.name]),
            _default(field),
            _range(field),
            field.metadata["says"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is tuple:
        return "list of text"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[kind]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "the host's name"  # device.name is the only one that depends on the machine
    if field.default in ("", ()):
        return "empty"
    return f"`{_number(field.default)}`" if isinstance(field.default, int | float) else f"`{field.default}`"


def _range(field: dataclasses.Field[Any]) -> str:
    if "between" not in field.metadata:
        return ""
    low, high = field.metadata["between"]
    return f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value != int(value):
        return str(value)
    # As YAML takes it: 86_400 is a number there too.
    return f"{int(value):_}" if value >= 10_000 else str(int(value))


def _profiles() -> str:
    lines = ["## Profiles", "", "Starting points for families of devices. Every value says its reason in the file.", ""]
    lines += ["| profile | for |", "|---|---|"]
    for name in profile_names():
        about = yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"))["about"]
        lines.append(f"| [{name}](../firmware_profiles/{name}.yaml) | {about} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
