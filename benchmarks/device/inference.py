"""One image, and thirty-two, through the student: our default beside what one would pick instead.

The student has half a million parameters (a ResNet-20 of 1.4 times the usual width, 76 M multiply-accumulates, images
of 32 x 32). Every peer has the same weights and does the same work on one thread: from normalised float32 images in the
layout it likes best to logits and feature; that all give the same numbers is checked first. They take turns, call by
call, and a ratio is the median over all turns; so nobody finds the caches as it left them, as on a device between two
frames. What counts is processor time: where other programs want the processor, the clock on the wall would punish the
slower peers twice.

ours  LiteRT with weights as they are shipped (`training.quantise`): int8, each layer's input rounded as it runs; one
  image after the other
litert_fp32  LiteRT with float32 weights; thirty-two images at once, as all others
torch_eager  what one writes first: the trained module, `eval()`, `no_grad()`
torch_channels_last  the same with its weights and images in the layout that suits convolutions
onnxruntime  batch norms folded, written from the same graph as ours

`classify` is the daemon's own call, from uint8 pixels to verdicts: the model, and normalising, novelty and decision
around it, which are `share_not_model` of its time.

`top1_loss_pt` is what int8 weights cost on CIFAR-10's test images, in percentage points: the student of nine categories
with 0.27 million parameters, packed both ways. It needs --data-dir and --teacher; where that student is not in the
cache, it is trained first, for hours.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.adapters.inference import Classifier
from agent.config import Config
from benchmarks.device.conditions import Conditions
from benchmarks.device.findings import Figure, Findings, Row
from benchmarks.device.interleaved import Seconds, interleaved, median_ms, ratio
from benchmarks.device.model import INPUT, LABELS, bundle_of_half_a_million, images
from transfer import bundle, tflite
from transfer.bundle import Bundle
from transfer.graph import Graph, network_graph
from transfer.interpreter import Interpreter
from transfer.preprocess import normalise
from transfer.spec import NetSpec
from transfer.tflite import Quantise

ROUNDS = {1: 400, 32: 50}
QUICK_ROUNDS = {1: 40, 32: 5}
WARM_UPS = 3
TARGETS = {
    "vs_torch_eager": 0.15,
    "vs_onnxruntime": 0.30,
    "vs_torch_eager_batch32": 0.15,
    "vs_onnxruntime_batch32": 0.30,
    "top1_loss_pt": 0.3,
}
OURS, CLASSIFY = "ours", "classify"
PLAIN: Quantise = "none"

Floats = npt.NDArray[np.float32]
Run = Callable[[], tuple[Floats, Floats]]
"""Logits and feature of the images that it was made for."""


class DisagreementError(RuntimeError):
    """A peer does not compute what the others do; the message says which and by how much."""


def measure(conditions: Conditions) -> Findings:
    """See the module's docstring. Raises DisagreementError, and what a missing or wrong data set raises."""
    rounds = QUICK_ROUNDS if conditions.quick else ROUNDS
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-inference-") as folder:
        conditions.note("making the student")
        served = bundle.load(bundle_of_half_a_million(Path(folder) / "student", shipped()), trusted=None)
        taken = {}
        for batch, count in rounds.items():
            conditions.note(f"{count} rounds of batches of {batch}")
            taken[batch] = timed(served, batch, count, notes)
    accuracy, rows = _accuracy(conditions, notes)
    return findings(taken, accuracy, rows, notes)


def shipped() -> Quantise:
    """How a device packs what it has learned, unless it is told otherwise."""
    return Config().training.quantise


def timed(served: Bundle, batch: int, rounds: int, notes: list[str]) -> dict[str, list[float]]:
    """Seconds of every call, [rounds] by peer; `notes` gains a line for each peer that is not installed."""
    shown = images(-(-batch // len(LABELS)), 0)[:batch]
    peers = contenders(served.manifest.net, served.weights(), normalise(shown, INPUT), notes)
    agree(peers)
    classifier = Classifier(served, 0)
    calls = {**peers, CLASSIFY: lambda: classifier.classify(shown)}
    return interleaved(calls, rounds, warm_ups=WARM_UPS, clock=time.process_time)


# ---------------------------------------------------------------------------------------------------- the peers


def contenders(spec: NetSpec, weights: Mapping[str, Floats], inputs: Floats, notes: list[str]) -> dict[str, Run]:
    """All that can run here, made ready for `inputs` float32 [n, h, w, 3]."""
    graph = network_graph(spec, weights, *inputs.shape[1:3])
    makers: dict[str, Callable[[], Run]] = {
        OURS: partial(ours, graph, inputs),
        "litert_fp32": partial(litert_fp32, graph, inputs),
        "torch_eager": partial(torch_eager, spec, weights, inputs, channels_last=False),
        "torch_channels_last": partial(torch_eager, spec, weights, inputs, channels_last=True),
        "onnxruntime": partial(onnxruntime, graph, inputs),
    }
    peers = {}
    for name, make in makers.items():
        try:
            peers[name] = make()
        except ImportError as error:
            line = f"{name} is left out: {error}."
            notes += [line] if line not in notes else []
    return peers


def ours(graph: Graph, inputs: Floats) -> Run:
    return partial(Interpreter(tflite.write(graph, quantise=shipped())).run, inputs)


def litert_fp32(graph: Graph, inputs: Floats) -> Run:
    from ai_edge_litert.interpreter import Interpreter as Library

    interpreter = Library(model_content=tflite.write(graph), num_threads=1)
    source = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(source, inputs.shape)
    interpreter.allocate_tensors()
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def run() -> tuple[Floats, Floats]:
        interpreter.set_tensor(source, inputs)
        interpreter.invoke()
        return interpreter.get_tensor(outputs[0]), interpreter.get_tensor(outputs[1])

    return run


def torch_eager(spec: NetSpec, weights: Mapping[str, Floats], inputs: Floats, *, channels_last: bool) -> Run:
    import torch

    from transfer.networks import build

    torch.set_num_threads(1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = build(spec, dict(weights)).eval().to(memory_format=layout)  # type: ignore[call-overload]
    given = torch.from_numpy(inputs).permute(0, 3, 1, 2).contiguous(memory_format=layout)

    def run() -> tuple[Floats, Floats]:
        with torch.no_grad():
            made = net(given)
        return made.logits.numpy(), made.feature.numpy()

    return run


def onnxruntime(graph: Graph, inputs: Floats) -> Run:
    import onnxruntime as library  # type: ignore[import-untyped]

    from benchmarks.peers.onnx_graph import onnx_model

    options = library.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = library.InferenceSession(onnx_model(graph), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))}

    def run() -> tuple[Floats, Floats]:
        logits, feature = session.run(None, given)
        return logits, feature

    return run


def agree(peers: Mapping[str, Run]) -> None:
    """That all do the same work: float peers to a thousandth of the largest number, ours to a fifth of it, for the
    random weights of the student are harder to round than trained ones. Raises DisagreementError."""
    expected = peers["litert_fp32"]()
    for name, run in peers.items():
        allowed = 0.2 if name == OURS else 1e-3
        for got, wanted in zip(run(), expected, strict=True):
            largest = float(np.abs(wanted).max())
            off = float(np.abs(got - wanted).max()) / largest if got.shape == wanted.shape else np.inf
            if not off <= allowed:
                raise DisagreementError(f"{name} is off by {off:.3g} of the largest number, allowed is {allowed}")


# ---------------------------------------------------------------------------------------------------- what they say


def findings(
    taken: Mapping[int, Mapping[str, Seconds]],
    accuracy: Mapping[str, Figure],
    rows: Sequence[Row],
    notes: Sequence[str],
) -> Findings:
    """taken: seconds by batch and peer."""
    one, many = taken[1], taken[max(taken)]
    return Findings(
        benchmark="inference",
        figures={
            "vs_torch_eager": _by(one, "torch_eager"),
            "vs_onnxruntime": _by(one, "onnxruntime"),
            "vs_litert_fp32": _by(one, "litert_fp32"),
            "vs_torch_eager_batch32": _by(many, "torch_eager"),
            "vs_onnxruntime_batch32": _by(many, "onnxruntime"),
            "vs_litert_fp32_batch32": _by(many, "litert_fp32"),
            "share_not_model": 1 - ratio(one[OURS], one[CLASSIFY]),
            "share_not_model_batch32": 1 - ratio(many[OURS], many[CLASSIFY]),
            **accuracy,
        },
        rows=[*(row for batch, seconds in taken.items() for row in _rows(batch, seconds)), *rows],
        targets=TARGETS,
        notes=notes,
    )


def _by(seconds: Mapping[str, Seconds], peer: str) -> float | None:
    """Ours by theirs; None where they did not run."""
    return ratio(seconds[OURS], seconds[peer]) if peer in seconds else None


def _rows(batch: int, seconds: Mapping[str, Seconds]) -> list[Row]:
    return [
        {
            "peer": name,
            "batch": batch,
            "median_ms": median_ms(each),
            "quickest_ms": 1000 * min(each),
            "ours_by_it": ratio(seconds[OURS], each),
            "images_a_second": batch / statistics.median(each),
        }
        for name, each in seconds.items()
    ]


def _accuracy(conditions: Conditions, notes: list[str]) -> tuple[dict[str, Figure], list[Row]]:
    """Figures and rows of `benchmarks.device.rounding`."""
    if conditions.quick or not (conditions.data_dir and conditions.teacher):
        notes.append("The loss of accuracy was not measured: it needs --data-dir and --teacher, and no --quick.")
        return {"top1_loss_pt": None, "novelty_auroc_loss": None}, []
    from benchmarks.device.rounding import judged
    from benchmarks.setting import Setting
    from benchmarks.students import recipe, student

    conditions.note("the trained student, both ways, on all test images")
    setting = Setting("table4", conditions.cache, data_dir=conditions.data_dir, teacher_path=conditions.teacher)
    setting.open()
    known = setting.known_without(setting.new_category)
    begun = student(setting, recipe(setting, known), "T10")
    found = {quantise: judged(setting, begun, quantise) for quantise in (PLAIN, shipped())}
    plain, ours = found[PLAIN], found[shipped()]
    rows: list[Row] = [
        {"peer": f"weights: {name}", "top1": each.top1, "novelty_auroc": each.auroc, "model_bytes": each.bytes}
        for name, each in found.items()
    ]
    notes.append(f"Accuracy: {len(known)} categories of {setting.dataset.name}, all their test images; novelty: of")
    notes[-1] += f" {setting.new_category}, which the student does not know."
    return {"top1_loss_pt": plain.top1 - ours.top1, "novelty_auroc_loss": plain.auroc - ours.auroc}, rows
