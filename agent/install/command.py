"""The command: what is to be installed where, said before and while it is done."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agent.config import Config, ConfigError
from agent.config_file import load
from agent.install import systemd, termux
from agent.install.first_config import complete, first_config
from agent.install.program import Program, this_program, unit_template
from agent.install.steps import Folder, InstallError, Step, Write, carry_out, describe, refuse_to_overwrite
from agent.recognise import Recognised, recognise


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for. `config` and `settings` (`section.key` to text) are the service's."""

    kind: Literal["systemd", "termux"]
    config: Path | None = None
    profile: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    user: bool = False
    dry_run: bool = False
    force: bool = False
    uninstall: bool = False
    root: Path = Path("/")


@dataclass(frozen=True, slots=True)
class Place:
    """Where things belong for this kind of service, as the installed system will see them."""

    config: Path
    images: Path
    bundle: Path
    state: Path | None
    """What device.state_dir has to be; None: the default, or the profile's."""


def run(wish: Wish, *, json_wanted: bool) -> int:
    """Returns the exit status: 1 where it cannot be installed so."""
    try:
        steps, remarks = plan(wish)
        if not (wish.force or wish.uninstall):
            refuse_to_overwrite(steps)
        if wish.kind == "systemd" and not wish.user:
            os.umask(0o022)  # the service's user owns nothing: what root makes must be readable to others
        done = []
        for step in steps:
            done.append(describe(step))
            if not json_wanted:
                print(("would " if wish.dry_run else "") + done[-1], flush=True)
            if not wish.dry_run and (trouble := carry_out(step)):
                remarks.append(trouble)
    except InstallError as error:
        if json_wanted:
            print(json.dumps({"ok": False, "error": str(error)}))
        else:
            print(f"understudy agent install: {error}", file=sys.stderr)
        return 1
    if json_wanted:
        print(json.dumps({"ok": True, "dry_run": wish.dry_run, "steps": done, "remarks": remarks}))
    else:
        print("\n".join(["", *remarks]))
    return 0


def plan(wish: Wish) -> tuple[list[Step], list[str]]:
    """The steps, and what a person has to know or do besides. Raises InstallError, ConfigError; changes nothing."""
    home = Path.home()
    prefix = Path(os.environ.get("PREFIX") or termux.PREFIX)
    place = _place(wish, home)
    _refuse(wish)
    if wish.uninstall:
        removal = (
            termux.removal(prefix=prefix, home=home, root=wish.root)
            if wish.kind == "termux"
            else systemd.removal(user=wish.user, home=home, root=wish.root)
        )
        state = place.state or Path("/var/lib/understudy")
        return removal, [f"configuration and state are kept: {place.config}, {state} (or your device.state_dir)"]
    program = this_program()
    first, remarks, start = _configuration(wish, place)
    if wish.kind == "termux":
        steps = termux.plan(program, place.config, prefix=prefix, home=home, root=wish.root, start=start)
        lacking = termux.missing() if wish.root == Path("/") else ["everything below"]
        remarks += [f"not found: {', '.join(lacking)}\n{termux.NEEDS}"] if lacking else []
        begin = f"sv-enable {termux.SERVICE}"
        look = f"sv status {termux.SERVICE}"
    else:
        unit = _unit(wish, program, place)
        replaced = systemd.unit_path(user=wish.user, home=home, root=wish.root).exists()
        steps = systemd.plan(unit, program, user=wish.user, home=home, root=wish.root, start=start, replaced=replaced)
        manager = "systemctl --user" if wish.user else "systemctl"
        begin, look = f"{manager} start understudy-agent", f"{manager} status understudy-agent"
    if start:
        remarks.append(f"to see it: {look}; understudy agent status --config {place.config}")
    else:
        remarks.append(f"it is not started yet; when the configuration is complete: {begin}")
    return [*first, *steps], remarks


def _place(wish: Wish, home: Path) -> Place:
    if wish.kind == "systemd" and not wish.user:
        srv = Path("/srv/understudy")
        return Place(wish.config or Path("/etc/understudy/agent.yaml"), srv / "images", srv / "student", None)
    config = wish.config.expanduser().absolute() if wish.config else home / ".config/understudy/agent.yaml"
    folder = home / "understudy"
    return Place(config, folder / "images", folder / "student", home / ".local/share/understudy")


def _refuse(wish: Wish) -> None:
    if wish.user and wish.kind == "termux":
        raise InstallError("--user is for systemd; in Termux everything is yours anyway")
    if not wish.root.is_dir():
        raise InstallError(f"--root {wish.root}: there is no such folder")
    if wish.root != Path("/") or wish.dry_run or wish.kind == "termux":
        return
    if not Path("/run/systemd/system").is_dir():
        raise InstallError("systemd does not run this machine; in Termux use --termux, for an image --root DIR")
    if not wish.user and os.geteuid() != 0:
        raise InstallError("this needs root: sudo understudy agent install --systemd, or use --user")


def _configuration(wish: Wish, place: Place) -> tuple[list[Step], list[str], bool]:
    """Steps for the first configuration, remarks, and whether the service can be started with it."""
    path = _below(wish.root, place.config)
    if path.exists():
        remarks = []
        if wish.settings or wish.profile:
            remarks.append(f"--set and --profile have no effect: {place.config} is there, edit it")
        try:
            config = load(path)
        except ConfigError as error:
            return [], [*remarks, f"the configuration is faulty:\n{error}"], False
        return [], [*remarks, *_out_of_reach(wish, place, config)], complete(config, wish.root)
    found = recognise(wish.root)
    profile = wish.profile or ("pixel2-termux" if wish.kind == "termux" else found.profile)
    settings = {"source.folder": str(place.images)}
    if place.state is not None:
        settings["device.state_dir"] = str(place.state)
    settings |= wish.settings
    text = first_config(found, profile, settings, str(place.bundle))
    config = load(None, flags={**settings, "profile": profile})
    steps: list[Step] = []
    if config.source.kind == "folder":
        steps.append(Folder(_below(wish.root, Path(config.source.folder).expanduser().absolute())))
    steps.append(Write(path, text, kept=True))
    return steps, [_says(found, profile), *_out_of_reach(wish, place, config)], complete(config, wish.root)


def _says(found: Recognised, profile: str) -> str:
    return f"this is {found.device} ({found.why}): profile {profile}"


def _unit(wish: Wish, program: Program, place: Place) -> str:
    if not wish.user:
        for path in (Path(program.words[0]), Path(program.pythonpath or "/usr"), place.config):
            if systemd.hidden(path):
                raise InstallError(
                    f"{path} lies in a home folder, into which the service may not look. Install into a place of its "
                    "own: python3 -m venv /opt/understudy && /opt/understudy/bin/pip install understudy, and keep the "
                    "configuration in /etc/understudy; or use --user"
                )
    return systemd.unit_text(unit_template(systemd.UNIT), program, place.config, user=wish.user)


def _out_of_reach(wish: Wish, place: Place, config: Config) -> list[str]:
    """What the service's own user, who owns nothing, could not read."""
    if wish.kind == "termux" or wish.user or wish.root != Path("/"):
        return []
    mqtt = config.mqtt
    named = [config.source.folder, config.model.bundle, mqtt.ca_file, mqtt.cert_file, mqtt.key_file]
    paths = [place.config, *(Path(name).expanduser() for name in named if name)]
    return [why for path in paths if (why := systemd.out_of_reach(path))]


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")
