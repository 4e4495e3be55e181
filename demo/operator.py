"""The operator's seat: hears everything the fleet says over MQTT, as any operator's program would."""

from __future__ import annotations

import queue
from typing import Any

from transfer import wire


class Operator:
    """Subscribes to one fleet. `messages` holds decoded status, event and job messages; bytes to and from the teacher
    are only counted."""

    def __init__(self, port: int, topics: wire.Topics) -> None:
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: queue.SimpleQueue[wire.Status | wire.Event | wire.JobUpdate] = queue.SimpleQueue()
        self.teacher_bytes = 0
        self.prediction_messages = 0
        self._topics = topics
        # 3.1.1: whichever broker the demo found speaks it.
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port, keepalive=30)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, *_: Any) -> None:
        client.subscribe([(f"{self._topics.prefix}/v1/{self._topics.fleet}/#", 1)])

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        leaf = message.topic.removeprefix(f"{self._topics.prefix}/v1/{self._topics.fleet}/").partition("/")[2]
        if leaf.startswith("teacher/"):
            self.teacher_bytes += len(message.payload)
            return
        if leaf == "prediction":
            self.prediction_messages += 1
            return
        kinds: dict[str, Any] = {"status": wire.Status, "event": wire.Event, "job": wire.JobUpdate}
        if leaf in kinds:
            self.messages.put(wire.decode(message.payload, kinds[leaf]))
