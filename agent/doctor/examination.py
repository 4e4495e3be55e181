"""Goes through everything the daemon needs on this machine, cheap things first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from agent.adapters.resources import Machine
from agent.config import Config
from agent.doctor import broker, computing, containment, machine, sources
from agent.doctor.finding import Finding
from agent.recognise import Recognised, recognise

Examine = Callable[[], Finding]


def examine(
    config: Config | None,
    *,
    profile: str | None = None,
    found: Recognised | None = None,
    trying: Callable[[str], None] = lambda what: None,
) -> list[Finding]:
    """Every finding; those about a configuration only where one is given. `profile`: the one that it names.

    `trying` is told what comes next. Everything here ends by itself, within a minute each.
    """
    found = found or recognise()
    folder = config.state_dir if config else Path(tempfile.gettempdir())
    trying("sensors")
    reading = Machine(folder).sample()
    watched = Path(config.source.folder).expanduser() if config and config.source.folder else None
    examinations: list[tuple[str, Examine]] = [
        ("device", partial(machine.examine_device, found, profile, configured=config is not None)),
        ("Python", computing.examine_python),
        ("clock", machine.examine_clock),
        ("memory", partial(machine.examine_memory, reading)),
        ("sensors", partial(machine.examine_sensors, reading)),
        ("cgroups", containment.examine_groups),
        ("disk", partial(machine.examine_disk, folder)),
        ("inotify", partial(sources.examine_inotify, watched)),
        ("TFLite", computing.examine_tflite),
        ("torch", computing.examine_torch),
    ]
    if config is None:
        examinations.append(("camera", sources.examine_cameras))
    else:
        examinations.append(("budget", partial(machine.examine_budget, config.budget, reading)))
        examinations.append(("source", partial(sources.examine_source, config.source)))
        if config.model.bundle:
            examinations.append(("bundle", partial(sources.examine_bundle, config.model)))
        if config.mqtt.host:
            examinations.append(("broker", partial(broker.examine_broker, config)))
    findings = []
    for what, look in examinations:
        trying(what)
        findings.append(look())
    return findings
