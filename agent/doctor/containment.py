"""Whether the trainer can have a control group of its own, with limits that the kernel keeps."""

from __future__ import annotations

from pathlib import Path

from agent.adapters.cgroup import hierarchies
from agent.adapters.trainer_group import why_no_trainer_group
from agent.doctor.finding import Finding, limited, works

WITHOUT = "without one, niceness and limits of single processes hold the trainer"


def examine_groups(proc: Path = Path("/proc")) -> Finding:
    """The doctor is mostly run from a shell, whose group is not the service's: what it can say for sure is whether the
    system has what a group needs."""
    why = why_no_trainer_group(proc)
    if not why:
        return works("cgroups", "the trainer gets a group of its own")
    try:
        two = [each for each in hierarchies(proc) if each.version == 2]
    except (OSError, ValueError) as error:
        return limited("cgroups", f"cannot be read: {error}", f"{WITHOUT}; on Android there is no other way")
    if not two:
        advice = f"boot with systemd.unified_cgroup_hierarchy=1; {WITHOUT}"
        return limited("cgroups", "version 2 is not mounted", advice)
    if "memory" not in _controllers(two[0].top):
        advice = f"on a Raspberry Pi add cgroup_enable=memory to /boot/firmware/cmdline.txt and reboot; {WITHOUT}"
        return limited("cgroups", "version 2, but without its memory controller", advice)
    advice = "as a service it gets one: understudy agent install --systemd"
    return limited("cgroups", f"version 2, but not for this process: {why}", advice)


def _controllers(top: Path) -> list[str]:
    try:
        return (top / "cgroup.controllers").read_text().split()
    except OSError:
        return []
