"""`understudy agent ...`: the command line of the device. Heavy parts are imported by the commands that need them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from agent.config import Config, ConfigError, as_document
from agent.config_file import environment, load, profile_names

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
    add("status", "what it is doing, why it is not training, what model this is, how good it is", _status)
    add("check-config", "say what is wrong with a configuration, or that nothing is", _check)
    show = add("show-config", "the configuration as the daemon would use it", _show)
    show.add_argument("--explain", action="store_true", help="with the meaning of every key")
    add("doctor", "try everything the daemon needs on this machine and say what to do about what fails", _doctor)
    add("rollback", "go back to the previous generation of the model", _rollback)
    add("cancel", "end the learning round under way", _cancel)
    return parser


def _config(arguments: argparse.Namespace) -> Config:
    flags = {}
    for item in arguments.set:
        key, separator, value = item.partition("=")
        if not separator:
            raise ConfigError(f"--set {item}: expected SECTION.KEY=VALUE")
        flags[key] = value
    if arguments.profile:
        flags["profile"] = arguments.profile
    return load(arguments.config, environment=environment(), flags=flags)


def _run(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    # numpy's algebra would start a thread for every core, each with its memory; the trainer is told otherwise.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from agent.adapters.inference import InferenceError
    from agent.daemon import Daemon, DaemonError
    from agent.home import HomeError
    from transfer.bundle import BundleError
    from transfer.signing import KeyFileError

    try:
        daemon = Daemon(config)
    except (DaemonError, HomeError, BundleError, InferenceError, KeyFileError, OSError) as error:
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
    from agent.doctor import examine, render

    findings = examine(_config(arguments) if arguments.config else None)
    print(json.dumps(findings) if arguments.json else render(findings, colour=sys.stdout.isatty()))
    return 1 if any(finding["state"] == "fails" for finding in findings) else 0


def _ask(arguments: argparse.Namespace, request: dict[str, Any]) -> tuple[Config, dict[str, Any] | None]:
    from agent.adapters.control import ask
    from agent.home import Home

    config = _config(arguments)
    return config, ask(Home(config.state_dir).control, request)


def _status(arguments: argparse.Namespace) -> int:
    from agent.status import of_the_stopped, render

    config, answer = _ask(arguments, {"do": "status"})
    if answer is not None and "error" in answer:
        return _say(arguments, answer)
    status = answer if answer is not None else of_the_stopped(config)
    print(json.dumps(status) if arguments.json else render(status, colour=sys.stdout.isatty()))
    return 0 if answer is not None else 3


def _rollback(arguments: argparse.Namespace) -> int:
    config, answer = _ask(arguments, {"do": "rollback"})
    if answer is None:
        return _say(arguments, _roll_back_offline(config))
    if "error" not in answer and answer["previous"] is None:
        answer = {"error": "there is no previous generation to roll back to"}
    return _say(arguments, answer)


def _roll_back_offline(config: Config) -> dict[str, Any]:
    from agent.adapters.model_store import ModelStore, ModelStoreError
    from agent.home import Home, HomeError
    from transfer.bundle import BundleError

    home = Home(config.state_dir)
    if not home.folder.is_dir():
        return {"error": f"{home.folder}: there is no such state folder; is it the right configuration?"}
    try:
        home.take()  # a daemon that is too busy to answer must not have its model changed beneath it
        return {"accepted": "rollback", "generation": ModelStore(home.folder).roll_back(), "daemon": "not running"}
    except (HomeError, ModelStoreError, BundleError, OSError) as error:
        return {"error": str(error)}


def _cancel(arguments: argparse.Namespace) -> int:
    _, answer = _ask(arguments, {"do": "cancel"})
    return _say(arguments, answer or {"error": "no daemon is running with this state folder"})


def _say(arguments: argparse.Namespace, answer: dict[str, Any]) -> int:
    if arguments.json:
        print(json.dumps(answer))
    elif "error" in answer:
        print(f"understudy agent: {answer['error']}", file=sys.stderr)
    else:
        print(
            f"{answer['accepted']}: ordered"
            if "daemon" not in answer
            else f"generation {answer['generation']} is active"
        )
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
