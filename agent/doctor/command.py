"""The command itself: tries everything, prints what was found, and fails where the daemon could not work."""

from __future__ import annotations

import json
import sys

from agent.config import Config
from agent.doctor.examination import examine
from agent.doctor.report import Progress, colour_wanted, columns, render
from agent.recognise import recognise


def run(config: Config | None, profile: str | None, *, json_wanted: bool) -> int:
    """The exit status: 1 where something fails that the daemon cannot do without."""
    found, progress = recognise(), Progress()
    try:
        findings = examine(config, profile=profile, found=found, trying=progress.trying)
    finally:
        progress.done()
    ok = not any(finding["state"] == "fails" for finding in findings)
    if json_wanted:
        device = {"name": found.device, "profile": found.profile, "why": found.why}
        print(json.dumps({"ok": ok, "device": device, "findings": findings}))
    else:
        print(render(findings, colour=colour_wanted(sys.stdout), width=columns()))
    return 0 if ok else 1
