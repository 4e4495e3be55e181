"""Devices by the files that they are known by; each sample is written as the vendors' documentation shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config_file import profile_names
from agent.recognise import recognise

A76 = "processor\t: 0\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
PI_CPUINFO = "processor\t: 0\nCPU part\t: 0xd08\n\nRevision\t: c03115\nSerial\t\t: 10000000abcdef01\nModel\t\t: {}\n"


def root_of(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return folder


def tree(model: str, *compatible: str, memory_kb: int = 3_884_792) -> dict[str, str]:
    return {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": "".join(f"{name}\0" for name in compatible),
        "proc/meminfo": f"MemTotal:        {memory_kb} kB\nMemFree:          100 kB\n",
    }


@pytest.mark.spec("12.2")
@pytest.mark.parametrize(
    ("files", "profile"),
    [
        (tree("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "brcm,bcm2712"), "raspberry-pi-5"),
        (tree("Raspberry Pi 500 Rev 1.0", "raspberrypi,500", "brcm,bcm2712"), "raspberry-pi-5"),
        (tree("Raspberry Pi 4 Model B Rev 1.5", "raspberrypi,4-model-b", "brcm,bcm2711"), "raspberry-pi-4"),
        (tree("Raspberry Pi 400 Rev 1.0", "raspberrypi,400", "brcm,bcm2711"), "raspberry-pi-4"),
        (tree("Raspberry Pi Zero 2 W Rev 1.0", "raspberrypi,model-zero-2-w", "brcm,bcm2837"), "raspberry-pi-zero-2w"),
        (tree("Raspberry Pi 3 Model B Plus", "raspberrypi,3-model-b-plus", "brcm,bcm2837"), "raspberry-pi-zero-2w"),
        (
            tree(
                "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
                "nvidia,p3768-0000+p3767-0005-super",
                "nvidia,p3767-0005",
                "nvidia,tegra234",
            ),
            "jetson-orin-nano",
        ),
        (tree("NVIDIA Jetson Nano Developer Kit", "nvidia,p3450-0000", "nvidia,tegra210"), "jetson-nano"),
        (tree("Radxa ROCK 5B", "radxa,rock-5b", "rockchip,rk3588"), "generic-arm64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_board_is_known_by_its_device_tree(files: dict[str, str], profile: str, tmp_path: Path) -> None:
    found = recognise(root_of(tmp_path, files), "aarch64")
    assert found.profile == profile
    assert found.device == files["proc/device-tree/model"].strip("\0")
    assert files["proc/device-tree/compatible"].split("\0")[-2] in found.why


def test_a_pi_4_with_too_little_memory_gets_the_profile_that_fits(tmp_path: Path) -> None:
    files = tree("Raspberry Pi 4 Model B Rev 1.1", "raspberrypi,4-model-b", "brcm,bcm2711", memory_kb=947_000)
    found = recognise(root_of(tmp_path, files), "aarch64")
    assert found.profile == "raspberry-pi-zero-2w" and "924 MiB" in found.why


@pytest.mark.parametrize(
    ("line", "part", "profile"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "0xd42", "jetson-orin-nano"),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "", "jetson-orin-nano"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64", "0xd42", "jetson-orin-nano"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64", "0x004", "generic-arm64"),
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64", "0xd07", "jetson-nano"),
    ],
)
def test_a_jetson_in_a_container_is_known_by_its_release(line: str, part: str, profile: str, tmp_path: Path) -> None:
    files = {"etc/nv_tegra_release": f"{line}\n", "proc/cpuinfo": f"processor\t: 0\nCPU part\t: {part}\n"}
    assert recognise(root_of(tmp_path, files), "aarch64").profile == profile


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("Raspberry Pi Compute Module 4 Rev 1.1", "raspberry-pi-4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
        ("Raspberry Pi 3 Model B Rev 1.2", "raspberry-pi-zero-2w"),
    ],
)
def test_a_pi_whose_device_tree_is_hidden_is_known_by_its_processor(model: str, profile: str, tmp_path: Path) -> None:
    found = recognise(root_of(tmp_path, {"proc/cpuinfo": PI_CPUINFO.format(model)}), "aarch64")
    assert (found.device, found.profile) == (model, profile)


@pytest.mark.spec("12.2")
def test_a_phone_is_known_by_its_properties(tmp_path: Path) -> None:
    script = """#!/bin/sh
case "$1" in
  ro.product.manufacturer) echo Google ;;
  ro.product.model) echo "Pixel 2" ;;
  ro.build.version.release) echo 11 ;;
esac
"""
    root = root_of(tmp_path, {"system/bin/getprop": script})
    (root / "system/bin/getprop").chmod(0o755)
    found = recognise(root, "aarch64")
    assert (found.device, found.profile, found.why) == ("Google Pixel 2", "pixel2-termux", "getprop: Android 11")


def test_a_phone_whose_properties_cannot_be_read_is_still_one(tmp_path: Path) -> None:
    root = root_of(tmp_path, {"system/bin/getprop": "not a program"})
    assert recognise(root, "aarch64").profile == "pixel2-termux"


def test_what_is_no_known_board_goes_by_its_architecture_and_memory(tmp_path: Path) -> None:
    root_of(tmp_path, {"proc/cpuinfo": A76})
    assert recognise(tmp_path, "x86_64").profile == "generic-x86"
    assert recognise(tmp_path, "aarch64").profile == "generic-arm64"
    root_of(tmp_path, {"proc/meminfo": "MemTotal:  500000 kB\n"})
    assert recognise(tmp_path, "aarch64").profile == "raspberry-pi-zero-2w"


def test_this_machine_is_recognised_somehow() -> None:
    found = recognise()
    assert found.profile in profile_names() and found.device and found.why


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=300), release=st.binary(max_size=60))
def test_whatever_the_files_hold_there_is_a_profile(
    content: bytes, release: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("root")
    for name in ("proc/device-tree/model", "proc/device-tree/compatible", "proc/cpuinfo", "proc/meminfo"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "etc").mkdir()
    (root / "etc/nv_tegra_release").write_bytes(b"# R" + release)
    assert recognise(root, "aarch64").profile in profile_names()
