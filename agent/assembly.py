"""Makes the adapters that have several shapes: the source and the link, as the configuration asks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.adapters.camera import CameraSource
from agent.adapters.egress import EgressGate
from agent.adapters.inference import Inference
from agent.adapters.intake import IntakeError
from agent.adapters.mqtt import Link, LinkEvent
from agent.adapters.mqtt_session import LinkConfig
from agent.adapters.outbox import Outbox
from agent.adapters.seen import SeenFiles
from agent.adapters.watcher import FolderWatcher
from agent.announcer import Announcer
from agent.config import Config, ConfigError, Log
from transfer import wire
from transfer.spec import InputSpec

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from agent.adapters.metrics import MetricsFile, MetricsPort


def make_source(
    config: Config,
    spec: InputSpec,
    inference: Inference,
    seen: SeenFiles,
    *,
    reject: Callable[[Path, IntakeError], None],
    report: Callable[[str], None],
) -> FolderWatcher | CameraSource:
    """A folder waits for the classifier and loses nothing; a camera does not wait, and what it drops is counted."""
    source = config.source
    if source.kind == "camera":
        return CameraSource(
            source.camera, spec=spec, deliver=inference.offer, report=report, fps=source.fps, realtime=True
        )
    return FolderWatcher(
        Path(source.folder).expanduser(),
        spec=spec,
        deliver=inference.submit,
        reject=reject,
        seen=seen,
        report=report,
        rescan_s=source.rescan_s,
        labelled=source.folder_labels,
        max_bytes=int(source.max_file_mib * 2**20),
        max_pixels=int(source.max_megapixels * 1e6),
    )


def make_link(
    config: Config,
    topics: wire.Topics,
    gate: EgressGate,
    outbox: Outbox,
    announcer: Announcer,
    on_event: Callable[[LinkEvent], None],
) -> Link | None:
    """None where no broker is configured. Raises ConfigError where the password cannot be read."""
    mqtt, device = config.mqtt, config.device
    if not mqtt.host:
        return None
    return Link(
        LinkConfig(
            host=mqtt.host,
            port=mqtt.port,
            username=mqtt.username or None,
            password=_password(mqtt.password_file),
            tls=mqtt.tls,
            ca_file=mqtt.ca_file or None,
            cert_file=mqtt.cert_file or None,
            key_file=mqtt.key_file or None,
            client_id=f"{device.prefix}-{device.fleet}-{device.name}",
            keepalive_s=mqtt.keepalive_s,
            max_message_bytes=mqtt.max_message_bytes,
        ),
        topics,
        gate,
        outbox,
        will=announcer.status(online=False),
        current_status=lambda: announcer.status(online=True),
        on_event=on_event,
    )


def open_metrics(
    log: Log, describe: Callable[[], dict[str, Any]], journal: FilteringBoundLogger
) -> list[MetricsFile | MetricsPort]:
    """What the configuration asks for, to be closed by who opens it; where it asks for nothing, nothing is loaded."""
    if not log.metrics_file and not log.metrics_port:
        return []
    from agent.adapters.metrics import MetricsFile, MetricsPort
    from agent.adapters.metrics_text import exposition

    def text() -> str:
        return exposition(describe())

    opened: list[MetricsFile | MetricsPort] = []
    if log.metrics_file:
        opened.append(MetricsFile(Path(log.metrics_file).expanduser(), text, journal))
    if log.metrics_port:
        try:
            opened.append(MetricsPort(log.metrics_port, text))
        except OSError as error:  # images are served all the same
            journal.error("metrics_port_not_open", port=log.metrics_port, error=str(error))
    return opened


def _password(file: str) -> str | None:
    if not file:
        return None
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").splitlines()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise ConfigError(f"mqtt.password_file: {file}: {error}") from None
