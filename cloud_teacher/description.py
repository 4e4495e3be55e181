"""A small YAML file that makes a teacher of a torch module from anywhere:

    factory: my_package.my_module:my_network    # called with `arguments`, gives the module
    arguments: {classes: 10}
    weights: my_network.pt                      # a state dict (torch or .safetensors), beside this file
    labels: [cat, dog, ...]                     # in the order of the logits; or a file with one name a line
    input: {height: 224, width: 224}            # and mean, std (ImageNet's by default) or per_image: true
    groups: [[layer1.0, layer1.1], [layer2.0]]  # paths of the blocks' modules, group by group
    feature: pooled last block                  # or the path of the module that gives it
    flip: true                                  # whether a mirrored image is still of its category

Its factory's code is run, so use only files that you trust as you trust your own programs. Of the weights only tensors
are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from cloud_teacher.adapter import POOLED, Adapted, AdapterError, measured, nearest
from cloud_teacher.datasets import IMAGENET_MEAN, IMAGENET_STD
from cloud_teacher.labels import LabelsError, checked_labels, read_labels
from transfer.spec import MAX_BLOCKS, MAX_GROUPS, InputSpec

SUFFIXES = (".yaml", ".yml")
MAX_FILE_BYTES = 2**20
NESTED = ("state_dict", "model")
"""Checkpoints often hold the state dict under one of these keys."""
SHOWN = 5


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file's content; see above."""

    factory: str
    groups: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...] | str
    input: InputSpec
    arguments: dict[str, Any] = {}
    weights: str = ""
    feature: str = POOLED
    flip: bool = True

    def __post_init__(self) -> None:
        names = [name for group in self.groups for name in group]
        if not 1 <= len(self.groups) <= MAX_GROUPS or not all(self.groups) or len(names) > MAX_BLOCKS:
            raise ValueError(f"groups: there must be 1 to {MAX_GROUPS}, none empty, of at most {MAX_BLOCKS} blocks")
        if len(set(names)) != len(names):
            raise ValueError("groups: every block can be named only once")


class Described(msgspec.Struct, frozen=True):
    """The teacher's module and all that is known of it. widths: channels of each group's blocks."""

    net: Adapted
    labels: tuple[str, ...]
    input: InputSpec
    flip: bool
    widths: tuple[tuple[int, ...], ...]
    feature_width: int
    digest: str


def load_described(path: Path) -> Described:
    """The module that the file describes, in evaluation mode. Raises AdapterError."""
    try:
        description = read_description(path)
        labels = _labels(description, path)
        inner = _made(description, path.parent)
        if description.weights:
            _fill(inner, path.parent / description.weights)
        net = Adapted(inner, description.groups, description.feature)
        widths, feature_width = measured(net, description.input, len(labels))
    except (AdapterError, LabelsError) as error:
        raise AdapterError(f"{path}: {error}") from error
    digest = _digest(description, labels, inner)
    return Described(net, labels, description.input, description.flip, widths, feature_width, digest)


def read_description(path: Path) -> Description:
    """Raises AdapterError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise AdapterError(f"larger than {MAX_FILE_BYTES} bytes")
        document = yaml.safe_load(content)
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise AdapterError(f"cannot be read as YAML: {error}") from error
    _check_keys("", document, Description.__struct_fields__)
    if "input" in document:
        _check_keys("input.", document["input"], InputSpec.__struct_fields__)
        document["input"] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD} | document["input"]
    try:
        return msgspec.convert(document, Description)
    except msgspec.ValidationError as error:
        raise AdapterError(f"{error} (a name such as `no` or `3` needs quotes in YAML)") from error


def _check_keys(where: str, document: object, known: tuple[str, ...]) -> None:
    if not isinstance(document, dict):
        raise AdapterError(f"{where or 'the file'} must hold keys such as {', '.join(known[:3])}")
    for key in document:
        if key not in known:
            hint = nearest(str(key), known) or f"; known are {', '.join(known)}"
            raise AdapterError(f"unknown key {where}{key}{hint}")


def _labels(description: Description, path: Path) -> tuple[str, ...]:
    if isinstance(description.labels, str):
        return read_labels(path.parent / description.labels)
    return checked_labels(description.labels, "labels")


def _made(description: Description, folder: Path) -> nn.Module:
    module_name, _, attribute = description.factory.partition(":")
    if not module_name or not attribute:
        raise AdapterError(f"factory {description.factory!r} must be package.module:callable")
    try:
        with _importable(folder):
            found: Any = import_module(module_name)
    except Exception as error:  # the module's own code runs, and may fail in any way
        raise AdapterError(f"factory: {module_name} cannot be imported: {error!r}") from error
    try:
        factory = getattr(found, attribute)
    except AttributeError:
        raise AdapterError(f"factory: {module_name} has no {attribute!r}{nearest(attribute, dir(found))}") from None
    try:
        made = factory(**description.arguments)
    except Exception as error:
        raise AdapterError(f"factory: {description.factory} fails with these arguments: {error!r}") from error
    if not isinstance(made, nn.Module):
        raise AdapterError(f"factory: {description.factory} gives a {type(made).__name__}, not a torch module")
    return made


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """A module beside the YAML file is found, after all that is installed."""
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _fill(module: nn.Module, path: Path) -> None:
    """Load the weights, all of them and no others."""
    given = _state(path)
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    strangers = [name for name in given if name not in wanted]
    if missing or strangers:
        raise AdapterError(
            f"weights {path.name} are not of this network: it lacks {_some(missing)} and has besides {_some(strangers)}"
        )
    wrong = [name for name in given if given[name].shape != wanted[name].shape]
    if wrong:
        name = wrong[0]
        raise AdapterError(
            f"weights {path.name}: {name} is {tuple(given[name].shape)}, but the network's {tuple(wanted[name].shape)}"
        )
    module.load_state_dict(dict(given), strict=False)  # not strict: batch counters may be missing


def _state(path: Path) -> Mapping[str, Tensor]:
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything: EOFError, IndexError, UnpicklingError, ...
        raise AdapterError(f"weights {path} are no file of tensors: {str(error)[:300]}") from error
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise AdapterError(f"weights {path} hold no state dict")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _digest(description: Description, labels: tuple[str, ...], module: nn.Module) -> str:
    """Names the teacher by what it answers: the same weights and meaning have the same digest, wherever they lie."""
    meaning = (labels, description.input, description.groups, description.feature, description.flip)
    digest = hashlib.sha256(repr((description.factory, sorted(description.arguments.items()), meaning)).encode())
    for name, tensor in sorted(module.state_dict().items()):
        array = np.ascontiguousarray(tensor.detach().cpu().float().numpy())
        digest.update(repr((name, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "") if names else "nothing"
