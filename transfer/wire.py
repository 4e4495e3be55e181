"""Every topic and every message between device, teacher worker and operator.

Pure: no clock, socket, file or randomness.

All messages are msgspec structs with a `type` tag and a version `v`, each type its own. What a person may read or write
(status, events, jobs, predictions, triggers, device commands) is JSON; what carries images or activations is msgpack.
Request id and reply topic are in the payload, so everything works on MQTT 3.1.1 too, where the v5 properties do not
exist.

Each message names its `Egress` class: what about a private image it could reveal. The device's egress gate decides by
that class, so a new message cannot leave a device before somebody has said what it contains.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta

MAX_CATEGORIES = 16
"""New categories of one trigger."""
MAX_MESSAGE_BYTES = 120_000
"""Largest payload either side publishes by default; AWS IoT Core caps a payload at 128 KB."""
MAX_TRANSFER_BYTES = 512 * 1024 * 1024


class Egress(enum.Enum):
    """What a message could reveal about a private image."""

    OPERATIONAL = "operational"
    """States, counters, reasons, accuracy: nothing about any single image."""
    DERIVED = "derived"
    """Computed from one image: its label, score, features."""
    IMAGE = "image"
    """Pixels."""


class WireError(ValueError):
    """A message was refused. `code` is for programs; the text says what was wrong and where."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# ---------------------------------------------------------------------------------------------------------- fields

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
"""One level of a topic: fleet, device, prefix."""
Label = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Id = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9_.:-]+$")]
Text = Annotated[str, Meta(max_length=1000)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Topic = Annotated[str, Meta(min_length=1, max_length=400, pattern=r"^[^#+\x00]+$")]
Utc = Annotated[float, Meta(ge=0, le=1e11)]
"""Seconds since 1970, UTC; only ever on the wire, never used as a timer."""
Count = Annotated[int, Meta(ge=0, le=2**53)]
Labels = Annotated[tuple[Label, ...], Meta(max_length=10_000)]
Categories = Annotated[tuple[Label, ...], Meta(min_length=1, max_length=MAX_CATEGORIES)]
"""What one round learns; `check_categories` says the rest."""
Scalar = str | int | float | bool | None


def check_categories(categories: tuple[str, ...]) -> None:
    """Raises ValueError unless all are different and printable: they become labels of a model."""
    twice = sorted({name for name in categories if categories.count(name) > 1})
    if twice:
        raise ValueError(f"categories must differ, {twice[0]!r} is named twice")
    unprintable = [name for name in categories if not name.isprintable()]
    if unprintable:
        raise ValueError(f"categories must be printable, {unprintable[0]!r} is not")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """Base of all messages. `v` is checked before any other field is looked at; its default is the version that this
    program speaks of that message."""

    egress: ClassVar[Egress]
    v: int = 1


# --------------------------------------------------------------------------------------------- device -> everybody


class Status(Message, tag="status", frozen=True, kw_only=True):
    """What the device is doing, retained; the last will is the same message with `online` false.

    `session` grows with every start of the device, so a late will of an earlier session can be told from a live one.
    """

    egress: ClassVar[Egress] = Egress.OPERATIONAL
    v: Literal[2] = 2
    device: Name
    session: Count
    online: bool
    at_utc: Utc
    phase: str = ""
    reason: Text = ""
    generation: Count = 0
    previous: Count | None = None
    labels: Labels = ()
    categories: Annotated[tuple[Label, ...], Meta(max_length=MAX_CATEGORIES)] = ()
    collected: Count = 0
    wanted: Count = 0
    frames: Count = 0
    dropped_frames: Count = 0
    novel_frames: Count = 0
    privacy: str = ""
    public_key: str = ""


class Event(Message, tag="event", frozen=True, kw_only=True):
    """Something happened on the device that an operator may want to see; `kind` is one of a small stable set."""

    egress: ClassVar[Egress] = Egress.OPERATIONAL
    device: Name
    session: Count
    seq: Count
    at_utc: Utc
    kind: Id
    detail: Annotated[dict[str, Scalar], Meta(max_length=40)] = {}


JobState = Literal["QUEUED", "IN_PROGRESS", "SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "REMOVED", "CANCELED"]


class JobUpdate(Message, tag="job", frozen=True, kw_only=True):
    """One learning round's progress for whoever published the trigger; states as AWS IoT Jobs names them.

    `left_out`: categories of the trigger that the candidate does not know, because too few samples were of them.
    """

    egress: ClassVar[Egress] = Egress.OPERATIONAL
    v: Literal[2] = 2
    device: Name
    session: Count
    at_utc: Utc
    trigger_id: Id
    categories: Categories
    left_out: Annotated[tuple[Label, ...], Meta(max_length=MAX_CATEGORIES)] = ()
    state: JobState
    detail: Text = ""
    old_before: float | None = None
    old_after: float | None = None
    new_before: float | None = None
    new_after: float | None = None
    generation: Count | None = None


class Prediction(Message, tag="prediction", frozen=True, kw_only=True):
    """One classified image. Derived from a private image: leaves the device only where privacy allows it."""

    egress: ClassVar[Egress] = Egress.DERIVED
    device: Name
    sample_id: Digest
    origin: Text
    at_utc: Utc
    label: Label
    confidence: Annotated[float, Meta(ge=0, le=1)]
    novelty: float
    novel: bool
    generation: Count


class Echo(Message, tag="echo", frozen=True, kw_only=True):
    """A device's note to itself through the broker: what comes back proves that the broker still routes to it."""

    egress: ClassVar[Egress] = Egress.OPERATIONAL
    session: Count
    n: Count


# --------------------------------------------------------------------------------------------- operator -> device


class Trigger(Message, tag="trigger", frozen=True, kw_only=True):
    """New categories are to be learned by the fleet (or by `devices`). Never valid without id, expiry and signature.

    `samples_wanted` are for all categories together. `unseen`: the device may have no image of them; the teacher knows
    them and says so of the images there are.
    """

    egress: ClassVar[Egress] = Egress.OPERATIONAL
    v: Literal[2] = 2
    id: Id
    categories: Categories
    issued_utc: Utc
    expires_utc: Utc
    samples_wanted: Annotated[int, Meta(ge=2, le=100_000)] = 100
    unseen: bool = False
    devices: Annotated[tuple[Name, ...], Meta(max_length=10_000)] = ()
    signature: str = ""

    def __post_init__(self) -> None:
        check_categories(self.categories)


class DeviceCommand(Message, tag="command", frozen=True, kw_only=True):
    """An operator's order to one device, which it names: nobody can play it back to another. Signed like a trigger."""

    egress: ClassVar[Egress] = Egress.OPERATIONAL
    id: Id
    device: Name
    action: Literal["rollback", "cancel", "resume"]
    issued_utc: Utc
    expires_utc: Utc
    signature: str = ""


# ------------------------------------------------------------------------------------------------ device <-> teacher


class BlockWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Which teacher block's map the student wants: its group, block, and the kept channels (method: scatter)."""

    group: Annotated[int, Meta(ge=0, le=64)]
    block: Annotated[int, Meta(ge=0, le=1024)]
    channels: Annotated[tuple[Annotated[int, Meta(ge=0, le=65_535)], ...], Meta(max_length=65_536)]


class ActivationRequest(Message, tag="activation_request", frozen=True, kw_only=True):
    """Ask the teacher for logits and block activations of some images. Self-contained, so any worker can answer it.

    The answer covers every (image, view) pair, image-major, and comes as `Chunk`s of one safetensors file on
    `reply_topic`: `transfer.activations` says what is in it, and another `v` would be answered in another way. Asking
    again with the same `request_id` has no further effect than the answer being sent again, from byte `from_offset` on.
    `expires_utc` is for who reads along: no worker goes by it, because the device's clock may be years off.
    """

    egress: ClassVar[Egress] = Egress.IMAGE
    v: Literal[2] = 2
    request_id: Id
    reply_topic: Topic
    expires_utc: Utc
    teacher: str = ""
    sample_ids: Annotated[tuple[Digest, ...], Meta(min_length=1, max_length=1024)]
    images: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=1024)]
    views: Annotated[tuple[Annotated[int, Meta(ge=0, le=1_000_000)], ...], Meta(min_length=1, max_length=64)] = (0,)
    flip: bool = True
    blocks: Annotated[tuple[BlockWanted, ...], Meta(max_length=64)] = ()
    pool: Annotated[int, Meta(ge=1, le=64)] = 2
    from_offset: Count = 0


class BundleRequest(Message, tag="bundle_request", frozen=True, kw_only=True):
    """Ask for a slice of the teacher's bundle (packed), for devices that question the teacher at home."""

    egress: ClassVar[Egress] = Egress.OPERATIONAL
    request_id: Id
    reply_topic: Topic
    expires_utc: Utc
    teacher: str = ""
    from_offset: Count = 0
    max_bytes: Annotated[int, Meta(ge=1, le=16 * 1024 * 1024)] = 1024 * 1024


class Chunk(Message, tag="chunk", frozen=True, kw_only=True):
    """A piece of an answer. `sha256` and `total_bytes` describe the whole, so a piece of another whole is noticed."""

    egress: ClassVar[Egress] = Egress.OPERATIONAL
    request_id: Id
    content: Literal["activations", "bundle"]
    offset: Count
    total_bytes: Annotated[int, Meta(ge=1, le=MAX_TRANSFER_BYTES)]
    sha256: Digest
    data: Annotated[bytes, Meta(min_length=1)]


class Refusal(Message, tag="refusal", frozen=True, kw_only=True):
    """The worker will not answer this request; asking the same again is useless unless `retry_after_s` is given."""

    egress: ClassVar[Egress] = Egress.OPERATIONAL
    request_id: Id
    code: Id
    message: Text
    retry_after_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None


JsonMessage = Status | Event | JobUpdate | Prediction | Echo | Trigger | DeviceCommand
BulkMessage = ActivationRequest | BundleRequest | Chunk | Refusal
AnyMessage = JsonMessage | BulkMessage

_JSON = (Status, Event, JobUpdate, Prediction, Echo, Trigger, DeviceCommand)
_BULK = (ActivationRequest, BundleRequest, Chunk, Refusal)
_json_encoder = msgspec.json.Encoder()
_bulk_encoder = msgspec.msgpack.Encoder()
_json_decoder = msgspec.json.Decoder(JsonMessage)
_bulk_decoder = msgspec.msgpack.Decoder(BulkMessage)


class _Envelope(msgspec.Struct):
    v: Any = None
    type: Any = None


_json_envelope = msgspec.json.Decoder(_Envelope)
_bulk_envelope = msgspec.msgpack.Decoder(_Envelope)

M = TypeVar("M", bound=Message)


def version_of(kind: type[Message]) -> int:
    """The version of that message which this program speaks: the default of its `v`."""
    return next(int(field.default) for field in msgspec.structs.fields(kind) if field.name == "v")


_KINDS: tuple[type[Message], ...] = (*_JSON, *_BULK)
_VERSIONS = {kind: version_of(kind) for kind in _KINDS}
_OF_TYPE = {str(kind.__struct_config__.tag): kind for kind in _KINDS}


def encode(message: AnyMessage, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """The payload of `message`. Raises WireError 'too_large' beyond `limit_bytes`: brokers drop what exceeds theirs."""
    payload: bytes = (_bulk_encoder if isinstance(message, _BULK) else _json_encoder).encode(message)
    if len(payload) > limit_bytes:
        raise WireError(
            "too_large", f"{type(message).__name__} of {len(payload)} bytes exceeds the limit of {limit_bytes}"
        )
    return payload


def decode(payload: bytes, expected: type[M], *, limit_bytes: int = MAX_MESSAGE_BYTES) -> M:
    """The message in `payload`, which must be of type `expected`.

    Raises WireError with code 'too_large', 'malformed', 'unknown_version' or 'unexpected_type'; the text names the
    field at fault.
    """
    name = expected.__name__
    if len(payload) > limit_bytes:
        raise WireError("too_large", f"{name}: {len(payload)} bytes exceed the limit of {limit_bytes}")
    bulk = issubclass(expected, _BULK)
    try:
        envelope = (_bulk_envelope if bulk else _json_envelope).decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("malformed", f"{name}: {error}") from None
    # A message of another type is judged by its own version, so that the error says what it is.
    kind = _OF_TYPE.get(envelope.type, expected) if isinstance(envelope.type, str) else expected
    if envelope.v != _VERSIONS[kind] or isinstance(envelope.v, bool):
        raise WireError("unknown_version", f"{name}: version {envelope.v!r:.40}; this program speaks {_VERSIONS[kind]}")
    try:
        message = (_bulk_decoder if bulk else _json_decoder).decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("malformed", f"{name}: {error}") from None
    if not isinstance(message, expected):
        raise WireError("unexpected_type", f"expected {name}, got {type(message).__name__}")
    if isinstance(message, ActivationRequest) and len(message.images) != len(message.sample_ids):
        raise WireError("malformed", f"{name}: {len(message.images)} images for {len(message.sample_ids)} sample ids")
    return message


def decode_reply(payload: bytes, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> Chunk | Refusal:
    """What a device may receive on its `teacher/rsp` topic."""
    return _either(payload, Chunk, Refusal, limit_bytes)


def decode_request(payload: bytes, *, limit_bytes: int = MAX_MESSAGE_BYTES) -> ActivationRequest | BundleRequest:
    """What a worker may receive on a `teacher/req` topic."""
    return _either(payload, ActivationRequest, BundleRequest, limit_bytes)


N = TypeVar("N", bound=Message)


def _either(payload: bytes, first: type[M], second: type[N], limit_bytes: int) -> M | N:
    try:
        return decode(payload, first, limit_bytes=limit_bytes)
    except WireError as error:
        if error.code != "unexpected_type":
            raise
    return decode(payload, second, limit_bytes=limit_bytes)


def signing_bytes(message: Trigger | DeviceCommand) -> bytes:
    """What the operator's Ed25519 signature covers: the message with an empty signature, in its JSON encoding."""
    return msgspec.json.encode(msgspec.structs.replace(message, signature=""))


# ----------------------------------------------------------------------------------------------------------- topics


class Topics(msgspec.Struct, frozen=True):
    """The topic tree `<prefix>/v1/<fleet>/<device>/...`: at most 7 slashes, as AWS IoT Core allows."""

    prefix: Name
    fleet: Name
    device: Name = "+"

    def _of(self, leaf: str) -> str:
        return f"{self.prefix}/v1/{self.fleet}/{self.device}/{leaf}"

    @property
    def status(self) -> str:
        return self._of("status")

    @property
    def event(self) -> str:
        return self._of("event")

    @property
    def job(self) -> str:
        return self._of("job")

    @property
    def prediction(self) -> str:
        return self._of("prediction")

    @property
    def echo(self) -> str:
        """Where a device publishes to itself, to learn whether its link still carries anything."""
        return self._of("echo")

    @property
    def command(self) -> str:
        return self._of("cmd")

    @property
    def teacher_request(self) -> str:
        return self._of("teacher/req")

    @property
    def teacher_reply(self) -> str:
        return self._of("teacher/rsp")

    @property
    def trigger(self) -> str:
        return f"{self.prefix}/v1/{self.fleet}/trigger"

    @property
    def shared_teacher_requests(self) -> str:
        """For workers on MQTT 5: each request reaches one of them."""
        return f"$share/teachers/{self.teacher_request}"
