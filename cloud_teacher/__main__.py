"""The command lines of the cloud and of the operator. Only argparse is imported before it is known what to do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from cloud_teacher.amounts import blocks, count, share_of_zeros

Parser = argparse.ArgumentParser
BROKER_VARIABLE = "UNDERSTUDY_BROKER"

TEACHER_EXAMPLES = """examples:
  understudy teacher train --data digits --out teacher/
  understudy teacher compress --data digits --teacher teacher/ --unknown nine --key cloud.key --out student/
  understudy teacher compress --data cifar10 --teacher resnet56-4bfd9763.th --unknown truck --out student/
  understudy teacher compress --data cifar10 --teacher wrn/ --unknown truck --params 0.23M --out student/
  understudy teacher compress --unlabelled photos/ --teacher wrn/ --params 0.23M --out student/
  understudy teacher serve --teacher teacher/ --broker mqtt://localhost --fleet home
"""
FLEET_EXAMPLES = """examples:
  understudy fleet keygen operator.key
  understudy fleet trigger --broker mqtt://localhost --fleet home --category nine --key operator.key
  understudy fleet watch --broker mqtt://localhost --fleet home
  understudy fleet command rollback kitchen-1 --broker mqtt://localhost --fleet home --key operator.key
"""


def teacher_main(argv: Sequence[str] | None = None, prog: str = "understudy teacher") -> int:
    parser = _parser(prog, "The cloud: train a teacher, compress it to a student, answer devices.", TEACHER_EXAMPLES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = _command(commands, "train", "train a teacher on images and write its bundle", "teacher_commands:train")
    _data(train)
    train.add_argument("--depth", type=int, metavar="LAYERS", help="a CIFAR-type ResNet of this depth (8, 14, 20, ...)")
    train.add_argument(
        "--augmentation",
        choices=("shift", "paper", "none"),
        default="shift",
        help="shift and mirror (default); as the paper: pad, crop, mirror, cut out, or for photographs crop and mirror",
    )
    train.add_argument(
        "--cutout", type=int, metavar="PIXELS", help="side of the square that is cut out (the paper: 16)"
    )
    _training(train)

    compress = _command(
        commands, "compress", "make a small student for devices from a teacher", "teacher_commands:compress"
    )
    _data(compress)
    _taught_by(compress)
    compress.add_argument(
        "--unlabelled",
        type=Path,
        metavar="DIR",
        help="teach by these pictures of anything, without labels, instead of by labelled data; the student knows all "
        "the teacher's categories, or those of --known",
    )
    known = compress.add_mutually_exclusive_group()
    known.add_argument(
        "--known", metavar="A,B,C", help="the categories the student is to know; only these are shown (default all)"
    )
    known.add_argument("--unknown", metavar="X,Y", help="all categories but these")
    compress.add_argument(
        "--blocks",
        type=blocks,
        metavar="N",
        help="blocks kept of each group: the last N, or one number a group, 4,4,3 (under a limit, two thin ones are "
        "better than one)",
    )
    width = compress.add_mutually_exclusive_group()
    width.add_argument(
        "--threshold", type=share_of_zeros, metavar="P", help="prune filters whose map is >= P zeros (0.7 to 1)"
    )
    width.add_argument("--params", type=count, metavar="N", help="prune to at most N parameters: 270000, 270k, 0.27M")
    width.add_argument(
        "--macs", type=count, metavar="N", help="prune to at most N multiply-accumulates an image: 10M, 1.5G"
    )
    width.add_argument("--student", metavar="SHAPE", help="not pruned: resnet20, wrn-16-2, ... or a .json of its shape")
    compress.add_argument(
        "--score",
        choices=("zeros", "gradient"),
        default="zeros",
        help="what goes first: filters of many zeros, in every layer alike (the paper; default), or channels that the "
        "teacher's logits hang on least, wherever they are",
    )
    compress.add_argument(
        "--taught",
        choices=("all", "known", "labels"),
        default="all",
        help="by all that the teacher says, by its logits of known categories, or by the labels alone (default all)",
    )
    compress.add_argument("--from-scratch", action="store_true", help="begin with chance, not with the kept filters")
    compress.add_argument("--views", type=int, default=4, metavar="N", help="views of each image (default 4)")
    compress.add_argument(
        "--unmixed", action="store_true", help="do not ask a teacher that knows more about mixtures of two images"
    )
    compress.add_argument(
        "--cells",
        type=int,
        choices=range(9),
        metavar="N",
        help="the feature also holds the means of N x N parts of an earlier map, which tell apart what nobody taught "
        "it about; 0 for smaller class statistics (default 2 where these stay small)",
    )
    compress.add_argument(
        "--holdout-per-class", type=int, default=25, metavar="N", help="images shipped to judge candidates by"
    )
    compress.add_argument(
        "--quantise",
        choices=("none", "dynamic_int8"),
        default="dynamic_int8",
        help="weights of the .tflite model: int8 (default), or as they are, for devices with tflite-runtime",
    )
    compress.add_argument(
        "--as-teacher-bundle", type=Path, metavar="DIR", help="also write the teacher as a signed bundle"
    )
    _training(compress)

    serve = _command(commands, "serve", "answer the devices of a fleet over MQTT", "teacher_commands:serve")
    _taught_by(serve)
    _broker(serve)
    serve.add_argument("--threads", type=int, metavar="N", help="threads to compute with (default: all cores)")
    serve.add_argument("--json", action="store_true", help="log JSON lines")
    return _run(parser, argv)


def fleet_main(argv: Sequence[str] | None = None, prog: str = "understudy fleet") -> int:
    parser = _parser(prog, "The operator: start learning rounds, watch devices, send them orders.", FLEET_EXAMPLES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    trigger = _command(commands, "trigger", "have the fleet learn categories", "fleet_commands:trigger")
    _broker(trigger)
    _signed(trigger)
    trigger.add_argument(
        "--category", action="append", required=True, metavar="NAME", help="what the devices are to learn; repeatable"
    )
    trigger.add_argument("--samples", type=int, default=100, metavar="N", help="samples in all (default 100)")
    trigger.add_argument("--unseen", action="store_true", help="devices may have no image of it: the teacher knows it")
    trigger.add_argument("--device", action="append", default=[], metavar="NAME", help="only this device; repeatable")
    trigger.add_argument("--id", metavar="ID", help="the trigger's id, to be recognised by (default: a random one)")

    watch = _command(commands, "watch", "show what the devices are doing", "fleet_commands:watch")
    _broker(watch)
    watch.add_argument("--json", action="store_true", help="one JSON message a line")

    keygen = _command(commands, "keygen", "make a signing key; prints its public half", "fleet_commands:keygen")
    keygen.add_argument("path", type=Path, metavar="PATH", help="where to write the private key")
    keygen.add_argument("--json", action="store_true", help="print a JSON object")

    command = _command(commands, "command", "send an order to one device", "fleet_commands:command")
    what = "go back to the previous model; end the round; begin rounds again after too many in a row have failed"
    command.add_argument("action", choices=("rollback", "cancel", "resume"), help=what)
    command.add_argument("device", metavar="DEVICE")
    _broker(command)
    _signed(command)
    return _run(parser, argv)


def _run(parser: Parser, argv: Sequence[str] | None) -> int:
    """0, or 1 with one line on what went wrong and what to do; argparse itself exits with 2."""
    arguments = parser.parse_args(argv)
    module, function = arguments.call.split(":")
    from cloud_teacher.broker_link import BrokerError

    try:
        return int(getattr(import_module(f"cloud_teacher.{module}"), function)(arguments))
    # All our own errors are ValueErrors but these; a torch that diverged raises FloatingPointError.
    except (ValueError, OSError, BrokerError, FloatingPointError) as error:
        print(f"{arguments.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(prog: str, description: str, examples: str) -> Parser:
    return Parser(
        prog=prog, description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _command(commands: argparse._SubParsersAction[Parser], name: str, what: str, call: str) -> Parser:
    parser: Parser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(call=call, prog=parser.prog)
    return parser


def _data(parser: Parser) -> None:
    parser.add_argument("--data", choices=("auto", "digits", "cifar10", "cifar100", "folder"), default="auto")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="CIFAR's files, or folders of categories")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of photographs (folder; default 64)")
    parser.add_argument(
        "--standardise",
        choices=("dataset", "per-image"),
        help="each image by the data set's mean and deviation, or by its own (the paper)",
    )
    parser.add_argument(
        "--validation",
        metavar="N",
        help="judge by N training images set apart (or a share: 0.1), and leave the test images alone",
    )


def _taught_by(parser: Parser) -> None:
    parser.add_argument(
        "--teacher",
        type=Path,
        required=True,
        metavar="PATH",
        help="a teacher's bundle, published weights (.th, .pth), or a .yaml that describes any torch module",
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="of published weights: category names, one a line")
    parser.add_argument("--input-size", type=int, metavar="PIXELS", help="of published weights: side of the images")


def _training(parser: Parser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle to write; must not exist")
    parser.add_argument("--key", type=Path, metavar="FILE", help="sign the bundle with this key (fleet keygen)")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--batch-size", type=int, metavar="N")
    parser.add_argument("--learning-rate", type=float, metavar="RATE", help="at its peak")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--threads", type=int, metavar="N", help="threads to compute with (default: all cores)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="for what can be made again (default: ~/.cache)")
    parser.add_argument("--json-progress", action="store_true", help="progress as JSON lines on standard output")


def _broker(parser: Parser) -> None:
    parser.add_argument(
        "--broker",
        default=os.environ.get(BROKER_VARIABLE, "mqtt://localhost"),
        metavar="URL",
        help=f"mqtt://[user:password@]host[:port] or mqtts://; in ${BROKER_VARIABLE} no `ps` shows a password",
    )
    parser.add_argument("--ca", type=Path, metavar="FILE", help="certificates to trust (mqtts)")
    parser.add_argument("--cert", type=Path, metavar="FILE", help="our certificate (mqtts)")
    parser.add_argument("--cert-key", type=Path, metavar="FILE", help="the key of our certificate")
    parser.add_argument("--prefix", default="understudy", metavar="NAME", help="first level of all topics")
    parser.add_argument("--fleet", default="home", metavar="NAME")


def _signed(parser: Parser) -> None:
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the operator's signing key")
    parser.add_argument("--expires-s", type=float, default=3600.0, metavar="SECONDS", help="ignored after (3600)")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m cloud_teacher teacher|fleet ...`"""
    arguments = list(sys.argv[1:] if argv is None else argv)
    groups = {"teacher": teacher_main, "fleet": fleet_main}
    if arguments[:1] and arguments[0] in groups:
        return groups[arguments[0]](arguments[1:])
    print("usage: python -m cloud_teacher {teacher,fleet} ...", file=sys.stderr)
    return 0 if arguments[:1] in (["-h"], ["--help"]) else 2


if __name__ == "__main__":
    sys.exit(main())
