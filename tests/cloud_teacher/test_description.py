from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

from cloud_teacher.adapter import AdapterError
from cloud_teacher.description import load_described
from transfer.spec import InputSpec

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.one = nn.Conv2d(3, width, 3, padding=1)
        self.two = nn.Conv2d(width, 6, 3, stride=2, padding=1)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.two(self.one(x).relu()).mean(dim=(2, 3)))


def network(width=4):
    return Net(width)


def no_network():
    return 3
"""
WHOLE: dict[str, Any] = {
    "factory": "their_network:network",
    "weights": "net.pt",
    "labels": ["ant", "bee", "cow"],
    "input": {"height": 16, "width": 16},
    "groups": [["one"], ["two"]],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's code and weights, and nothing left of them in this process afterwards."""
    (tmp_path / "their_network.py").write_text(CODE)
    space: dict[str, Any] = {}
    exec(CODE, space)
    torch.manual_seed(1)
    state = space["network"]().state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "net.pt")
    safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    torch.save(space["network"](width=5).state_dict(), tmp_path / "wider.pt")
    (tmp_path / "labels.txt").write_text("ant\nbee\ncow\n")
    monkeypatch.delitem(sys.modules, "their_network", raising=False)
    return tmp_path


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "teacher.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**WHOLE, **changes}.items() if value is not None}))
    return path


def test_a_file_makes_a_teacher(folder: Path) -> None:
    before = list(sys.path)
    found = load_described(written(folder))
    assert (found.labels, found.widths, found.feature_width) == (("ant", "bee", "cow"), ((4,), (6,)), 6)
    assert found.input == InputSpec(16, 16, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) and found.flip
    assert not found.net.training
    saved = torch.load(folder / "net.pt", weights_only=True)["state_dict"]
    assert torch.equal(found.net.inner.state_dict()["one.weight"], saved["module.one.weight"])
    assert sys.path == before


def test_the_digest_is_that_of_what_it_answers(folder: Path) -> None:
    digest = load_described(written(folder)).digest
    same = load_described(written(folder, weights="net.safetensors", labels="labels.txt"))
    assert same.digest == digest and len(digest) == 64
    others: list[dict[str, Any]] = [
        {"labels": ["ant", "cow", "bee"]},
        {"input": {"height": 16, "width": 16, "per_image": True}},
        {"groups": [["one"], ["two"]], "feature": "one"},
        {"weights": "wider.pt", "arguments": {"width": 5}},
    ]
    digests = {load_described(written(folder, **other)).digest for other in others}
    assert len(digests | {digest}) == 5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"wieghts": "net.pt"}, "unknown key wieghts; nearest are 'weights'"),
        ({"input": {"height": 16, "width": 16, "men": [0, 0, 0]}}, "unknown key input.men; nearest are 'mean'"),
        ({"input": {"height": 16}}, "missing required field `width`"),
        ({"input": 16}, "input. must hold keys"),
        ({"groups": None}, "missing required field `groups`"),
        ({"groups": []}, "groups: there must be 1 to 8"),
        ({"groups": [["one"], []]}, "none empty"),
        ({"groups": [["one"], ["one"]]}, "only once"),
        ({"groups": [["onne"], ["two"]]}, "no module 'onne'; nearest are 'one'"),
        ({"labels": ["ant", False, "cow"]}, r"Expected `str`, got `bool`.*needs quotes"),
        ({"labels": ["ant", "ant", "cow"]}, "names 1 and 2 are both 'ant'"),
        ({"labels": ["ant", "bee"]}, r"with 2 labels it must be \(2, 2\)"),
        ({"labels": "absent.txt"}, r"absent\.txt cannot be read"),
        ({"factory": "their_network"}, "must be package.module:callable"),
        ({"factory": "their_netwrok:network"}, "their_netwrok cannot be imported"),
        ({"factory": "their_network:nettwork"}, "has no 'nettwork'; nearest are 'network'"),
        ({"factory": "their_network:no_network"}, "gives a int, not a torch module"),
        ({"arguments": {"size": 3}}, "fails with these arguments: .*size"),
        ({"weights": "absent.pt"}, r"absent\.pt are no file of tensors"),
        ({"weights": "labels.txt"}, r"labels\.txt are no file of tensors"),
        ({"weights": "wider.pt"}, r"wider\.pt: one\.weight is \(5, 3, 3, 3\), but the network's \(4, 3, 3, 3\)"),
    ],
)
def test_mistakes_are_named_with_the_file(folder: Path, changes: dict[str, Any], says: str) -> None:
    path = written(folder, **changes)
    with pytest.raises(AdapterError, match=says) as caught:
        load_described(path)
    assert str(path) in str(caught.value)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    torch.save({"first.weight": torch.zeros(1), "one.weight": torch.zeros(4, 3, 3, 3)}, folder / "other.pt")
    with pytest.raises(AdapterError, match=r"it lacks one\.bias, .* and has besides first\.weight"):
        load_described(written(folder, weights="other.pt"))
    torch.save([1, 2], folder / "list.pt")
    with pytest.raises(AdapterError, match="hold no state dict"):
        load_described(written(folder, weights="list.pt"))


def test_weights_that_carry_code_are_not_run(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.mkdir, (folder / "made",)

    torch.save({"one.weight": Evil()}, folder / "evil.pt")
    with pytest.raises(AdapterError, match="are no file of tensors"):
        load_described(written(folder, weights="evil.pt"))
    assert not (folder / "made").exists()


@pytest.mark.parametrize("content", [b"[1, 2]", b"a: [", b"\xff\xfe\x00", b"", b"x" * (2**20 + 1)])
def test_what_is_no_description_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "teacher.yaml"
    path.write_bytes(content)
    with pytest.raises(AdapterError, match=r"teacher\.yaml: "):
        load_described(path)
