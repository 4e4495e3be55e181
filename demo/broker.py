"""The demo's own MQTT broker, on the loopback interface only: mosquitto where it is installed, else amqtt.

Either runs as a separate process. `python -m demo.broker PORT` is the amqtt one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["mosquitto", "amqtt"]
HOST = "127.0.0.1"
START_TIMEOUT_S = 15.0


class BrokerError(Exception):
    """The broker did not start; the text says why, or ends with the last lines of its log."""


@dataclass
class Broker:
    """A running broker. Whoever started it stops it."""

    process: subprocess.Popen[bytes]
    port: int
    kind: Kind

    def stop(self) -> None:
        """End the process, gently first. Harmless when it has ended already."""
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def mosquitto_path() -> str | None:
    """The mosquitto program, or None; Debian keeps it in /usr/sbin, which is not on every user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


def start_broker(directory: Path, port: int = 0, *, kind: Kind | None = None, options: Sequence[str] = ()) -> Broker:
    """A broker on 127.0.0.1, accepting connections when this returns; port 0 takes a free one.

    `directory` holds its configuration and log. `kind` None takes mosquitto if it is installed; `options` are further
    lines of mosquitto's configuration. Raises BrokerError, with the end of the log if there is one.
    """
    program = mosquitto_path() if kind != "amqtt" else None
    if kind == "mosquitto" and program is None:
        raise BrokerError("mosquitto is not installed; install it, or let the demo use amqtt")
    port = _claim(port)
    directory.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if program is not None:
        config = directory / "mosquitto.conf"
        lines = (f"listener {port} {HOST}", "allow_anonymous true", "persistence false", *options)
        config.write_text("\n".join(lines) + "\n")
        command = [program, "-c", str(config)]
    else:
        # The child finds this package wherever the demo was started from.
        root = str(Path(__file__).resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "demo.broker", str(port)]
    log = directory / "broker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    broker = Broker(process, port, "amqtt" if program is None else "mosquitto")
    try:
        _wait_until_it_accepts(broker, log)
    except BaseException:
        broker.stop()
        raise
    return broker


def free_port() -> int:
    """A TCP port of the loopback interface that nobody holds at this moment."""
    return _claim(0)


def _claim(port: int) -> int:
    # Whoever holds the port already would answer in our broker's place and look like it.
    try:
        with socket.create_server((HOST, port)) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise BrokerError(f"port {port} cannot be used: {error}; choose another, or 0 for any free one") from None


def _wait_until_it_accepts(broker: Broker, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if broker.process.poll() is not None:
            raise BrokerError(f"{broker.kind} ended with code {broker.process.returncode}:\n{_tail(log)}")
        try:
            socket.create_connection((HOST, broker.port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise BrokerError(f"{broker.kind} does not answer on port {broker.port}:\n{_tail(log)}") from None
            time.sleep(0.02)


def _tail(log: Path) -> str:
    return log.read_bytes()[-2000:].decode(errors="replace").strip() or "(its log is empty)"


async def _serve_amqtt(port: int) -> None:
    from amqtt.broker import Broker as Amqtt

    await Amqtt(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    ).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_amqtt(int(sys.argv[1])))
