"""A road between two network namespaces that loses packets and can be closed: what a device in the field has.

device's namespace -- router's namespace, which forwards or drops -- here, where the broker is
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress

import pytest


class BadRoad:
    """`under` starts a process on the far side; `here` is the address that it reaches us by. Needs root."""

    def __init__(self) -> None:
        number = os.getpid() % 200
        self.far, self.router, wires = f"us-far-{number}", f"us-road-{number}", [f"us{number}{end}" for end in "abcd"]
        far_address, near_far, near_here, self.here = (f"10.{200 + number % 50}.{number}.{n}" for n in (1, 2, 5, 6))
        self.under = ("ip", "netns", "exec", self.far)
        self._last_wire = wires[3]
        self.close()  # what an earlier run may have left
        a, b, c, d = wires
        for command in (
            f"ip netns add {self.far}",
            f"ip netns add {self.router}",
            f"ip link add {a} type veth peer name {b}",
            f"ip link add {c} type veth peer name {d}",
            f"ip link set {a} netns {self.far}",
            f"ip link set {b} netns {self.router}",
            f"ip link set {c} netns {self.router}",
            f"ip -n {self.far} addr add {far_address}/30 dev {a}",
            f"ip -n {self.router} addr add {near_far}/30 dev {b}",
            f"ip -n {self.router} addr add {near_here}/30 dev {c}",
            f"ip addr add {self.here}/30 dev {d}",
            f"ip -n {self.far} link set lo up",
            f"ip -n {self.far} link set {a} up",
            f"ip -n {self.router} link set {b} up",
            f"ip -n {self.router} link set {c} up",
            f"ip link set {d} up",
            f"ip -n {self.far} route add default via {near_far}",
            f"ip route add {far_address}/32 via {near_here}",
            f"ip netns exec {self.router} sysctl -q -w net.ipv4.ip_forward=1",
            f"ip netns exec {self.router} nft add table inet road",
            f"ip netns exec {self.router} nft add chain inet road way {{ type filter hook forward priority 0 ; }}",
        ):
            _run(command)

    def lose(self, percent: int) -> None:
        """Drop so many of a hundred packets, either way, without a word. 100: the road is closed."""
        _run(f"ip netns exec {self.router} nft flush chain inet road way")
        some = f"numgen random mod 100 < {percent} " if percent < 100 else ""
        if percent:
            _run(f"ip netns exec {self.router} nft add rule inet road way {some}counter drop")

    def lost(self) -> bool:
        """Whether any packet was dropped since the last `lose`."""
        listed = _run(f"ip netns exec {self.router} nft list chain inet road way")
        return "drop" in listed and "packets 0 " not in listed

    def close(self) -> None:
        for command in (f"ip link del {self._last_wire}", f"ip netns del {self.far}", f"ip netns del {self.router}"):
            with suppress(subprocess.CalledProcessError):
                _run(command)


def open_road() -> BadRoad:
    """Skips the test where there can be none."""
    missing = [tool for tool in ("ip", "nft", "sysctl") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install iproute2 nftables procps")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root: run as root to test lost packets and partitions")
    try:
        return BadRoad()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.cmd}: {error.stderr.strip()}")


def _run(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout
