"""EfficientNet-Lite0 (Tan and Le 2019, in Google's version for phones: ReLU6, no squeeze and excitation).

An example of a network that this project knows nothing of. Modules are named as in timm, whose weights fit.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

STEM, HEAD = 32, 1280


class Stage(NamedTuple):
    """Blocks that expand their input `expand` times, look at `kernel` x `kernel` pixels and give `width` channels; the
    first of them has the stride."""

    expand: int
    width: int
    blocks: int
    stride: int
    kernel: int


STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)


def efficientnet_lite0(classes: int = 1000) -> nn.Module:
    return EfficientNetLite(classes)


class EfficientNetLite(nn.Module):
    """Images float32 [n, 3, h, w] to logits [n, classes]. Its blocks are `blocks.<stage>.<position>`."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv_stem = _convolution(3, STEM, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(STEM)
        stages, width = [], STEM
        for stage in STAGES:
            blocks: list[nn.Module] = []
            for position in range(stage.blocks):
                stride = stage.stride if position == 0 else 1
                kind = Separable if stage.expand == 1 else Inverted
                blocks.append(kind(width, stage, stride))
                width = stage.width
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(width, HEAD, 1)
        self.bn2 = nn.BatchNorm2d(HEAD)
        self.act = nn.ReLU6()
        self.classifier = nn.Linear(HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.act(self.bn1(self.conv_stem(x))))
        x = self.act(self.bn2(self.conv_head(x)))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


class Separable(nn.Module):
    """A convolution of each channel for itself, then one across channels."""

    def __init__(self, width: int, stage: Stage, stride: int) -> None:
        super().__init__()
        self.conv_dw = _convolution(width, width, stage.kernel, stride, groups=width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv_pw = _convolution(width, stage.width, 1)
        self.bn2 = nn.BatchNorm2d(stage.width)
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x)))))
        return y


class Inverted(nn.Module):
    """The same behind an expansion of the channels, added to its input where both have one shape."""

    def __init__(self, width: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = width * stage.expand
        self.adds = stride == 1 and width == stage.width
        self.conv_pw = _convolution(width, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_dw = _convolution(inner, inner, stage.kernel, stride, groups=inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv_pwl = _convolution(inner, stage.width, 1)
        self.bn3 = nn.BatchNorm2d(stage.width)
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn2(self.conv_dw(self.act(self.bn1(self.conv_pw(x))))))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.adds else y


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
