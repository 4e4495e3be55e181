"""`understudy`: one command for the device, the cloud teacher, the operator and the demo.

Each room has a command line of its own; this only opens the door, and imports nothing of the others.
"""

from __future__ import annotations

import importlib
import os
import sys

ROOMS = {
    "agent": ("agent.__main__", "main", "the device: run, install, doctor, status, check-config, rollback"),
    "teacher": ("cloud_teacher.__main__", "teacher_main", "the cloud: serve, train, compress"),
    "fleet": ("cloud_teacher.__main__", "fleet_main", "the operator: trigger, watch, keygen, command"),
    "demo": ("demo.__main__", "main", "see all of it work on real images, in a minute"),
}

HELP = """usage: understudy ROOM ...

Teaches small image classifiers new categories, on the device, from a cloud teacher.

{rooms}

Try `understudy demo`, then `understudy agent run --help`.
"""


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP.format(rooms="\n".join(f"  {name:8} {says}" for name, (_, _, says) in ROOMS.items())), end="")
        return 0 if arguments else 2
    room = ROOMS.get(arguments[0])
    if room is None:
        print(f"understudy: there is no {arguments[0]!r}; the rooms are {', '.join(ROOMS)}", file=sys.stderr)
        return 2
    module, function, _ = room
    try:
        result = getattr(importlib.import_module(module), function)(arguments[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # `... | head` has read enough. What is still buffered must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return int(result)


if __name__ == "__main__":
    sys.exit(main())
