"""Bytes an image for what the teacher says, and what they cost in accuracy.

A device asks about 32 images in two augmented views each, as it is shipped, through a real broker; the bytes of its own
connection are counted, MQTT's framing included. Figures are per image, both views together.

WRN-28-10   random weights, since only the sizes count; the student is the paper's largest of CIFAR-10 (2.0 M, a block a
            group with 84, 169 and 337 channels)
ResNet-56   the weights given by --teacher; the student keeps all its channels, in a block a group

What comes down is compared with all block maps of the network in float32, for the same two views, and with other ways
of coding the same. For those only maps, logits and scales are counted; for ours also names and headers.
`vs_fp32_one_view` compares both views of ours with a single one in float32.

Accuracy: a student of nine categories of CIFAR-10 learns the tenth from 500 images, by the shipped round of tier
`transfer`, and is judged on the official test images of all ten; three draws of the 500, each learned from every
coding. `accuracy_loss_pt` is what our coding loses against the same channels whole and in float32, by the mean of the
three; below zero it gains. Needs --data-dir and --teacher. Nothing was chosen by looking at these images. Logits alone
stand beside them: where they do as well, the maps decided nothing in this round, and no coding of them could lose much.
"""

from __future__ import annotations

import hashlib
import io
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from agent.adapters.teacher_client import IMAGES_PER_REQUEST
from agent.config import Config
from benchmarks.device import codings, model
from benchmarks.device.coded_rounds import Coding, Judged, judged
from benchmarks.device.codings import Parts, Shape, as_int8, without_maps
from benchmarks.device.conditions import Conditions
from benchmarks.device.exchange import TOPICS, Exchanged, exchange
from benchmarks.device.findings import Findings, Row
from benchmarks.device.interleaved import interleaved, median_ms
from benchmarks.setting import Setting
from cloud_teacher.worker import TeacherWorker
from cloud_teacher.zoo import Teacher, fast, load_teacher
from transfer import activations, wire
from transfer.activations import POOL
from transfer.manifest import Pair
from transfer.networks import build
from transfer.preprocess import encode_png
from transfer.questions import to_tensor
from transfer.spec import NetSpec, resnet_cifar, wide_resnet

QUICK_IMAGES = 4
STUDENT_OF_WRN = (84, 169, 337)
TARGETS = {"bytes_per_image": 4600.0, "vs_fp32_all_blocks": 0.001, "accuracy_loss_pt": 0.3}
LITERAL = "float32, all blocks"
SHIPPED = f"4 bits, {POOL} x {POOL} (shipped)"
WHOLE, INT8, NO_MAPS = "float32, paired blocks' kept channels, whole", "int8, 4 x 4", "logits alone"

Images = npt.NDArray[np.uint8]
"""[n, 32, 32, 3]"""


@dataclass(frozen=True, eq=False)
class Asked:
    """A teacher and what a student of it asks: per group its last block, as many channels as the student has."""

    name: str
    teacher: Teacher
    kept: tuple[int, ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(
            Pair(group=group, teacher_block=len(blocks) - 1, channels=tuple(range(kept)))
            for group, (blocks, kept) in enumerate(zip(self.teacher.widths, self.kept, strict=True))
        )


CODINGS = {
    WHOLE: Coding(None, lambda answer: answer),
    INT8: Coding(4, as_int8),
    SHIPPED: Coding(POOL, lambda answer: activations.decode(activations.encode(answer))),
    NO_MAPS: Coding(POOL, without_maps),
}
"""Those that a round is learned from."""


def measure(conditions: Conditions, teachers: Callable[[Teacher | None], Sequence[Asked]] | None = None) -> Findings:
    """See the module's docstring. `teachers`: others than these two, for tests, by what --teacher gave."""
    torch.set_num_threads(1)
    given = load_teacher(conditions.teacher) if conditions.teacher and not conditions.quick else None
    asked = (teachers or both)(given)
    pictures, found = model.images(IMAGES_PER_REQUEST, 0), Judged()
    if given is not None and conditions.data_dir is not None:
        # As table 4 has it, so that its student is found in the cache.
        setting = Setting("table4", conditions.cache, data_dir=conditions.data_dir, teacher_path=conditions.teacher)
        setting.open()
        pictures = setting.dataset.train_images
        found = judged(setting, CODINGS, conditions.note)
    pictures = pictures[: QUICK_IMAGES if conditions.quick else IMAGES_PER_REQUEST]
    return findings([sent(one, pictures, conditions.note) for one in asked], pictures, found)


def both(given: Teacher | None) -> Sequence[Asked]:
    wide = Asked("WRN-28-10", random_teacher(wide_resnet(28, 10, 10)), STUDENT_OF_WRN)
    return wide, resnet_56(given or random_teacher(resnet_cifar(56, 10)))


def random_teacher(spec: NetSpec) -> Teacher:
    """Of the benchmarks' ten categories; it knows nothing."""
    net = fast(build(spec, model.random_weights(spec, seed=0)))
    digest = hashlib.sha256(repr(spec).encode()).hexdigest()
    return Teacher(net, digest, model.LABELS, model.INPUT, True, spec.widths, spec.feature_width)


def resnet_56(teacher: Teacher) -> Asked:
    """Raises ValueError where the teacher is another network: its figures would stand under a wrong name."""
    if [len(blocks) for blocks in teacher.widths] != [9, 9, 9]:
        raise ValueError("--teacher: this benchmark's is ResNet-56: give its published weights, or none")
    return Asked("ResNet-56", teacher, tuple(blocks[-1] for blocks in teacher.widths))


@dataclass(frozen=True, eq=False)
class Sent:
    """What one request took. shapes: of all the teacher's maps, by group and block."""

    asked: Asked
    bytes: Exchanged
    shapes: Sequence[Sequence[Shape]]


def sent(asked: Asked, pictures: Images, note: Callable[[str], None]) -> Sent:
    """Ask about the pictures over a broker."""
    note(f"{asked.name}: {len(pictures)} images over a broker")
    with torch.no_grad():
        outputs = asked.teacher.module(to_tensor(pictures[:1], asked.teacher.input))
    shapes = [[tuple(maps.shape[1:]) for maps in blocks] for blocks in outputs.blocks]
    return Sent(asked, exchange(TeacherWorker(asked.teacher), request(asked, pictures)), shapes)


def request(asked: Asked, pictures: Images) -> wire.ActivationRequest:
    """As `agent.adapters.teacher_client` writes it."""
    return wire.ActivationRequest(
        request_id="0" * 40,
        reply_topic=TOPICS.teacher_reply,
        expires_utc=time.time() + 3600,
        teacher=asked.teacher.digest,
        sample_ids=tuple(hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures),
        images=tuple(encode_png(picture) for picture in pictures),
        views=tuple(range(Config().training.views)),
        flip=asked.teacher.flip,
        blocks=activations.wanted(asked.pairs),
        pool=POOL,
    )


def findings(all_sent: Sequence[Sent], pictures: Images, found: Judged) -> Findings:
    """The first teacher's are the figures; `found` is of ResNet-56."""
    views, count = Config().training.views, len(pictures)
    rows: list[Row] = []
    down, fewer = {}, {}
    for one in all_sent:
        name, codes = one.asked.name, codings_of(one, views, count)
        down[name] = one.bytes.down_bytes / count
        fewer[name] = down[name] / codes[LITERAL].all
        of_it = found if name == "ResNet-56" else Judged()
        rows += [_row(name, coding, parts, codes[LITERAL].all, of_it) for coding, parts in codes.items()]
        rows.append(
            {"teacher": name, "coding": f"{SHIPPED}, over the broker", "bytes": down[name], "vs_fp32": fewer[name]}
        )
        rows.append({"teacher": name, "coding": "the request, over the broker", "bytes": one.bytes.up_bytes / count})
    rows += [{"teacher": "", "coding": name, "bytes": size} for name, size in picture_bytes(pictures).items()]
    first = all_sent[0]
    figures = {
        "bytes_per_image": down[first.asked.name],
        "vs_fp32_all_blocks": fewer[first.asked.name],
        "accuracy_loss_pt": found.loss(SHIPPED, WHOLE),
        "bytes_by_teacher": down,
        "vs_fp32_one_view": fewer[first.asked.name] * views,
        "upload_bytes_per_image": first.bytes.up_bytes / count,
    }
    return Findings("wire", figures, rows, TARGETS, notes=_notes(first, count, found))


def codings_of(one: Sent, views: int, count: int) -> dict[str, Parts]:
    """Of an image in all its views, what each coding takes."""
    asked, classes, paired = one.asked, len(one.asked.teacher.labels), [blocks[-1] for blocks in one.shapes]
    every = [shape for blocks in one.shapes for shape in blocks]
    ours = codings.shipped(one.bytes.answer)
    deflated = len(zlib.compress(one.bytes.answer)) / len(one.bytes.answer)

    def rounded(side: int, bits: int) -> Parts:
        return codings.pooled(paired, asked.kept, classes, side=side, bits=bits).times(views)

    return {
        LITERAL: codings.every_block(every, classes, 4).times(views),
        "float16, all blocks": codings.every_block(every, classes, 2).times(views),
        WHOLE: codings.kept_channels(paired, asked.kept, classes).times(views),
        INT8: rounded(4, 8),
        "4 bits, 4 x 4": rounded(4, 4),
        f"int8, {POOL} x {POOL}": rounded(POOL, 8),
        SHIPPED: ours.times(1 / count),
        f"{SHIPPED}, deflated": ours.times(deflated / count),
        NO_MAPS: Parts(0, 2 * classes).times(views),
    }


def picture_bytes(pictures: Images) -> dict[str, float]:
    """Of an image itself, on the average, as files."""

    def size(**options: Any) -> float:
        files = [io.BytesIO() for _ in pictures]
        for picture, file in zip(pictures, files, strict=True):
            Image.fromarray(picture).save(file, **options)
        return statistics.mean(file.tell() for file in files)

    return {"the image as PNG": size(format="PNG"), "the image as JPEG, quality 95": size(format="JPEG", quality=95)}


def _row(teacher: str, coding: str, parts: Parts, literal: float, found: Judged) -> Row:
    return {
        "teacher": teacher,
        "coding": coding,
        **asdict(parts),
        "bytes": parts.all,
        "vs_fp32": parts.all / literal,
        "accuracy_pct": found.mean(coding),
        "spread_pt": found.spread(coding),
        "loss_pt": found.loss(coding, WHOLE),
    }


def _notes(one: Sent, count: int, found: Judged) -> tuple[str, ...]:
    took = interleaved(
        {
            "decode": lambda: activations.decode(one.bytes.answer),
            "encode": lambda: activations.encode(activations.decode(one.bytes.answer)),
            "deflate": lambda: zlib.compress(one.bytes.answer),
        },
        rounds=5,
    )
    each = {name: median_ms(seconds) / count for name, seconds in took.items()}
    notes = [
        f"An image's answer by {one.asked.name}: decoded in {each['decode']:.2f} ms, encoded in "
        f"{each['encode'] - each['decode']:.2f} ms, deflated in {each['deflate']:.2f} ms."
    ]
    if not found.all:
        notes.append("accuracy_loss_pt was not measured: it needs --data-dir and --teacher, and no --quick.")
    return tuple(notes)
