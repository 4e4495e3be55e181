"""`understudy agent ...`: the command line of the device. Heavy parts are imported by the commands that need them."""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

from agent.config import Config, ConfigError, as_document
from agent.config_file import chosen_profile, environment, load, profile_names

EXAMPLES = """examples:
  understudy agent check-config --config /etc/understudy/agent.yaml
  understudy agent run --config /etc/understudy/agent.yaml
  understudy agent run --config agent.yaml --set source.folder=/data/in --set privacy.mode=local
  understudy agent status --config agent.yaml
"""


SMALLEST = """the smallest configuration that works, without a broker:
  source: {folder: /srv/images}
  model:
    bundle: /srv/student                  # what `understudy teacher compress` wrote
    trusted_keys: [64 hex digits]         # what `understudy fleet keygen` printed

every key with its meaning: understudy agent show-config --explain --set source.folder=.
"""


INSTALL = """--config names the service's configuration; where there is none, one is written with the profile of the
device that is recognised and with what --set says. One that is there is never changed.

examples:
  sudo understudy agent install --systemd --set model.bundle=/srv/student --set model.trusted_keys=KEY
  understudy agent install --systemd --user --dry-run
  understudy agent install --termux
"""


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except PermissionError as error:
        print(f"understudy agent: {error.filename}: permission denied; run this as the daemon's user", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="understudy agent",
        description="The daemon of the device: watches images, classifies, learns new categories when told to.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration")
    shared.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one key; also as environment UNDERSTUDY__SECTION__KEY",
    )
    shared.add_argument("--profile", choices=profile_names() or None, help="defaults of a device family")
    shared.add_argument("--json", action="store_true", help="print one JSON object, for programs")

    def add(name: str, says: str, run: Any, epilog: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=says,
            description=says,
            epilog=epilog,
            parents=[shared],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command

    add("run", "run the daemon in the foreground until SIGTERM; logs go to standard error", _run, SMALLEST)
    status = add("status", "what it is doing, why it is not training, what model this is, how good it is", _status)
    status.add_argument("-f", "--follow", "--watch", action="store_true", help="stay and show it anew each second")
    add("check-config", "say what is wrong with a configuration, or that nothing is", _check)
    show = add("show-config", "the configuration as the daemon would use it", _show)
    show.add_argument("--explain", action="store_true", help="with the meaning of every key")
    add("doctor", "try everything the daemon needs on this machine and say what to do about what fails", _doctor)
    _add_install(add("install", "make the daemon a service that comes back by itself", _install, INSTALL))
    add("rollback", "go back to the previous generation of the model", _rollback)
    add("cancel", "end the learning round under way", _cancel)
    add("resume", "begin learning rounds again after too many in a row have failed", _resume)
    return parser


def _add_install(install: argparse.ArgumentParser) -> None:
    kind = install.add_mutually_exclusive_group(required=True)
    kind.add_argument("--systemd", action="store_const", const="systemd", dest="kind", help="a unit of systemd")
    kind.add_argument("--termux", action="store_const", const="termux", dest="kind", help="a runit service in Termux")
    install.add_argument("--user", action="store_true", help="systemd: for you alone, without root")
    install.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    install.add_argument("--force", action="store_true", help="replace another service of that name, kept as .bak")
    install.add_argument("--uninstall", action="store_true", help="undo it; configuration and state are kept")
    install.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="install into the image there")


def _config(arguments: argparse.Namespace) -> Config:
    return load(arguments.config, environment=environment(), flags=_flags(arguments))


def _flags(arguments: argparse.Namespace) -> dict[str, str]:
    flags = {}
    for item in arguments.set:
        key, separator, value = item.partition("=")
        if not separator:
            raise ConfigError(f"--set {item}: expected SECTION.KEY=VALUE")
        flags[key] = value
    if arguments.profile:
        flags["profile"] = arguments.profile
    return flags


def _run(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    # numpy's algebra would start a thread for every core, each with its memory; the trainer is told otherwise.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.__stderr__ is not None:
        # What systemd's watchdog or a faulty library ends leaves the threads' stacks in the journal.
        faulthandler.enable(sys.__stderr__)
    from agent.adapters.inference import InferenceError
    from agent.daemon import Daemon
    from agent.first_model import FirstModelError
    from agent.home import HomeError
    from transfer.bundle import BundleError
    from transfer.signing import KeyFileError

    try:
        daemon = Daemon(config)
    except (FirstModelError, HomeError, BundleError, InferenceError, KeyFileError, OSError) as error:
        print(f"understudy agent: {error}", file=sys.stderr)
        return 1
    daemon.run()
    return 0


def _check(arguments: argparse.Namespace) -> int:
    try:
        _config(arguments)
    except ConfigError as error:
        if arguments.json:
            print(json.dumps({"ok": False, "faults": str(error).splitlines()}))
        else:
            print(error, file=sys.stderr)
        return 2
    print(json.dumps({"ok": True, "faults": []}) if arguments.json else "the configuration is good")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    if arguments.json:
        print(json.dumps(as_document(config)))
        return 0
    import dataclasses

    import yaml

    for section in dataclasses.fields(config):
        part = getattr(config, section.name)
        print(f"{section.name}:")
        for field in dataclasses.fields(part):
            if arguments.explain:
                print(f"  # {field.metadata['says']}")
            value = getattr(part, field.name)
            text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True).strip()
            print(f"  {field.name}: {text.removesuffix('...').strip()}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from agent.doctor.command import run

    config = _config(arguments) if arguments.config or arguments.set else None
    profile = chosen_profile(arguments.config, environment=environment(), flags=_flags(arguments))
    return run(config, profile, json_wanted=arguments.json)


def _install(arguments: argparse.Namespace) -> int:
    from agent.install.command import Wish, run

    settings = _flags(arguments)
    profile = settings.pop("profile", None)
    wish = Wish(
        arguments.kind,
        config=arguments.config,
        profile=profile,
        settings=settings,
        user=arguments.user,
        dry_run=arguments.dry_run,
        force=arguments.force,
        uninstall=arguments.uninstall,
        root=arguments.root.absolute(),
    )
    return run(wish, json_wanted=arguments.json)


def _ask(arguments: argparse.Namespace, request: dict[str, Any]) -> tuple[Config, dict[str, Any] | None]:
    from agent.adapters.control import ask
    from agent.home import Home

    config = _config(arguments)
    return config, ask(Home(config.state_dir).control, request)


def _status(arguments: argparse.Namespace) -> int:
    from agent.adapters.control import ask
    from agent.home import Home
    from agent.status import of_the_stopped
    from agent.status_page import render

    config = _config(arguments)

    def status() -> dict[str, Any]:
        answer = ask(Home(config.state_dir).control, {"do": "status"})
        return of_the_stopped(config) if answer is None else answer

    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if arguments.follow:
        from agent.follow import follow

        follow(status, sys.stdout, as_json=arguments.json, colour=colour)
        return 0
    found = status()
    if "error" in found:
        return _say(arguments, found)
    print(json.dumps(found) if arguments.json else render(found, colour=colour, width=get_terminal_size().columns))
    return 0 if found["online"] else 3


def _rollback(arguments: argparse.Namespace) -> int:
    return _order(arguments, "rollback")


def _cancel(arguments: argparse.Namespace) -> int:
    return _order(arguments, "cancel")


def _resume(arguments: argparse.Namespace) -> int:
    return _order(arguments, "resume")


def _order(arguments: argparse.Namespace, action: str) -> int:
    config, answer = _ask(arguments, {"do": action})
    if answer is None:
        from agent import offline

        return _say(arguments, offline.order(config, action))
    if action == "rollback" and "error" not in answer and answer["previous"] is None:
        answer = {"error": "there is no previous generation to roll back to"}
    return _say(arguments, answer)


def _say(arguments: argparse.Namespace, answer: dict[str, Any]) -> int:
    if arguments.json:
        print(json.dumps(answer))
    elif "error" in answer:
        print(f"understudy agent: {answer['error']}", file=sys.stderr)
    else:
        print(_said(answer))
    return 1 if "error" in answer else 0


def _said(answer: dict[str, Any]) -> str:
    if "daemon" not in answer:
        return f"{answer['accepted']}: ordered"
    if answer["accepted"] == "rollback":
        return f"generation {answer['generation']} is active"
    return f"{answer['accepted']}: written down; the daemon does it when it is started"


if __name__ == "__main__":
    sys.exit(main())
