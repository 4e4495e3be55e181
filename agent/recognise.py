"""Which device this is, and which of the `firmware_profiles/` was made for it, by what the machine says of itself.

Nothing here is ever needed by the daemon: a wrong guess costs a person a line in a configuration, never a frame.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 64 * 1024  # /proc/cpuinfo of a large machine is longer; its first processor is enough
GETPROP_TIMEOUT_S = 5.0
LITTLE_MEMORY_MIB = 1536  # below, torch's 326 MiB peak and a system do not fit beside each other: head tier only

RASPBERRY_PI = {
    "brcm,bcm2712": ("raspberry-pi-5", "Raspberry Pi 5's processor"),
    "brcm,bcm2711": ("raspberry-pi-4", "Raspberry Pi 4's processor"),
    "brcm,bcm2837": ("raspberry-pi-zero-2w", "the Cortex-A53 of the Pi 3 and the Pi Zero 2 W"),
    "brcm,bcm2710": ("raspberry-pi-zero-2w", "the Cortex-A53 of the Pi 3 and the Pi Zero 2 W"),
}
JETSON = {
    "nvidia,tegra234": ("jetson-orin-nano", "a Jetson of the Orin family"),
    "nvidia,tegra210": ("jetson-nano", "the Jetson Nano's processor"),
}


@dataclass(frozen=True, slots=True)
class Recognised:
    """`device`: what it calls itself; `profile`: the one to use; `why`: the evidence, to be read by a person."""

    device: str
    profile: str
    why: str


def recognise(root: Path = Path("/"), machine: str = "") -> Recognised:
    """Look at the files below `root`; `machine`: the architecture, by default this process's. Never raises."""
    machine = machine or platform.machine()
    found = _android(root) or _device_tree(root) or _tegra_release(root) or _cpuinfo(root)
    if found is None:
        return _generic(root, machine)
    memory_mib = _memory_mib(root)
    if found.profile == "raspberry-pi-4" and memory_mib is not None and memory_mib < LITTLE_MEMORY_MIB:
        why = f"{found.why}; but {memory_mib} MiB of memory are too few for that profile's training"
        return Recognised(found.device, "raspberry-pi-zero-2w", why)
    return found


def _android(root: Path) -> Recognised | None:
    """Android says by `getprop` what it runs on; the files behind it may be hidden from an app."""
    inside = root / "system/bin/getprop"
    command = str(inside) if inside.exists() else shutil.which("getprop") if root == Path("/") else None
    if command is None:
        return None
    maker, model = (_getprop(command, f"ro.product.{key}") for key in ("manufacturer", "model"))
    release = _getprop(command, "ro.build.version.release")
    device = " ".join(filter(None, (maker, model))) or "an Android device"
    return Recognised(device, "pixel2-termux", f"getprop: Android {release}".rstrip())


def _getprop(command: str, key: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        ran = subprocess.run(
            [command, key], stdin=subprocess.DEVNULL, capture_output=True, timeout=GETPROP_TIMEOUT_S, check=True
        )
        return ran.stdout[:200].decode("utf-8", "replace").strip()
    return ""


def _device_tree(root: Path) -> Recognised | None:
    """The board's name and, from the most to the least special, what it is compatible with; each ends with a NUL."""
    for folder in (root / "proc/device-tree", root / "sys/firmware/devicetree/base"):
        names = _text(folder / "compatible").split("\0")
        model = _text(folder / "model").strip("\0\n ")
        for table in (RASPBERRY_PI, JETSON):
            for name in names:
                if name in table:
                    profile, says = table[name]
                    return Recognised(model or name, profile, f"device tree: {name}, {says}")
        if model:
            return Recognised(model, "generic-arm64", f"device tree: {', '.join(filter(None, names)) or model}")
    return None


def _tegra_release(root: Path) -> Recognised | None:
    """In a container the device tree may be hidden, and NVIDIA's file mounted."""
    line = _text(root / "etc/nv_tegra_release").partition("\n")[0]
    if not line.startswith("# R"):
        return None
    release = line[2:].split(" ", 1)[0]
    if "t210ref" in line:
        return Recognised("a Jetson Nano or TX1", "jetson-nano", f"/etc/nv_tegra_release: {release}, t210ref")
    # R35 is also Xavier's; its processor is NVIDIA's own, the Orin's is a Cortex-A78AE (part 0xd42).
    is_orin = "0xd42" in _text(root / "proc/cpuinfo") or (release[1:].isdecimal() and int(release[1:5]) >= 36)
    profile = "jetson-orin-nano" if is_orin else "generic-arm64"
    return Recognised(f"a Jetson ({release})", profile, f"/etc/nv_tegra_release: {release}")


def _cpuinfo(root: Path) -> Recognised | None:
    """Raspberry Pi's kernels name the board there too, wherever the device tree is hidden."""
    fields = dict(_fields(_text(root / "proc/cpuinfo")))
    model = fields.get("Model", "")
    for words, profile in (
        ("Raspberry Pi 5", "raspberry-pi-5"),
        ("Raspberry Pi Compute Module 5", "raspberry-pi-5"),
        ("Raspberry Pi 4", "raspberry-pi-4"),
        ("Raspberry Pi Compute Module 4", "raspberry-pi-4"),
        ("Raspberry Pi Zero 2", "raspberry-pi-zero-2w"),
        ("Raspberry Pi 3", "raspberry-pi-zero-2w"),
    ):
        if model.startswith(words):
            return Recognised(model, profile, f"/proc/cpuinfo: Model {model}")
    return None


def _generic(root: Path, machine: str) -> Recognised:
    fields = dict(_fields(_text(root / "proc/cpuinfo")))
    device = fields.get("model name") or fields.get("Model") or machine or "unknown"
    memory_mib = _memory_mib(root)
    if machine in ("x86_64", "AMD64", "i686"):
        return Recognised(device, "generic-x86", f"the architecture is {machine}")
    if memory_mib is not None and memory_mib < LITTLE_MEMORY_MIB:
        why = f"the architecture is {machine}, no known board, and it has only {memory_mib} MiB of memory"
        return Recognised(device, "raspberry-pi-zero-2w", why)
    return Recognised(device, "generic-arm64", f"the architecture is {machine}, and no known board")


def _memory_mib(root: Path) -> int | None:
    value = dict(_fields(_text(root / "proc/meminfo"))).get("MemTotal", "").split()
    return int(value[0][:15]) // 1024 if value and value[0].isdecimal() else None


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator:
            yield name.strip(), value.strip()


def _text(path: Path) -> str:
    """The beginning of a file; empty where it is not there or not ours to read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
