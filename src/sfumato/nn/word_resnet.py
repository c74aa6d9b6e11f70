"""The residual network that turns the picture of a word into a row of features, from left to right.

Cheng et al. 2017 (FAN, arXiv 1709.02054, table 1), as Baek et al. 2019 (arXiv 1904.01906, appendix B) use it.
Its last poolings halve the height alone, so that letters stay apart. Modules are named as in the latter's
code, whose weight files therefore fit.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from sfumato.errors import UsageError

LOWEST = 32
"""Pixels of height that a picture needs, for a row to be left of it."""


@dataclass(frozen=True)
class WordResNetConfig:
    """Shape of the network."""

    features: int = 512
    """Of each place of the row; the first convolution has a sixteenth of it."""
    blocks: tuple[int, int, int, int] = (1, 2, 5, 3)
    """Residual blocks of each of its four stages."""


class Block(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))), with x brought to the new width if it differs."""

    def __init__(self, wide: int, out: int):
        super().__init__()
        self.conv1 = nn.Conv2d(wide, out, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        change = nn.Sequential(nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out))
        self.downsample = None if wide == out else change

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class WordResNet(nn.Module):
    """From pictures (b, c, h, w) to rows (b, w / 4 + 1, features)."""

    def __init__(self, channels: int, config: WordResNetConfig):
        super().__init__()
        if config.features % 16 or config.features < 16:
            raise UsageError(f"Features of a row come in multiples of 16, got {config.features}.")
        widths = [config.features // k for k in (16, 8, 4, 2, 1)]
        self.conv0_1, self.bn0_1 = _conv(channels, widths[0])
        self.conv0_2, self.bn0_2 = _conv(widths[0], widths[1])
        self.maxpool1 = nn.MaxPool2d(2, 2)
        self.layer1 = _stage(widths[1], widths[2], config.blocks[0])
        self.conv1, self.bn1 = _conv(widths[2], widths[2])
        self.maxpool2 = nn.MaxPool2d(2, 2)
        self.layer2 = _stage(widths[2], widths[3], config.blocks[1])
        self.conv2, self.bn2 = _conv(widths[3], widths[3])
        self.maxpool3 = nn.MaxPool2d(2, (2, 1), (0, 1))
        self.layer3 = _stage(widths[3], widths[4], config.blocks[2])
        self.conv3, self.bn3 = _conv(widths[4], widths[4])
        self.layer4 = _stage(widths[4], widths[4], config.blocks[3])
        self.conv4_1 = nn.Conv2d(widths[4], widths[4], 2, (2, 1), (0, 1), bias=False)
        self.bn4_1 = nn.BatchNorm2d(widths[4])
        self.conv4_2 = nn.Conv2d(widths[4], widths[4], 2, bias=False)
        self.bn4_2 = nn.BatchNorm2d(widths[4])
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l d"]:
        relu = self.relu
        x = relu(self.bn0_1(self.conv0_1(x)))
        x = relu(self.bn0_2(self.conv0_2(x)))
        x = self.layer1(self.maxpool1(x))
        x = relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.maxpool2(x))
        x = relu(self.bn2(self.conv2(x)))
        x = self.layer3(self.maxpool3(x))
        x = relu(self.bn3(self.conv3(x)))
        x = self.layer4(x)
        x = relu(self.bn4_1(self.conv4_1(x)))
        x = relu(self.bn4_2(self.conv4_2(x)))
        return x.mean(2).mT


def _conv(wide: int, out: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(wide, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)


def _stage(wide: int, out: int, blocks: int) -> nn.Sequential:
    if blocks < 1:
        raise UsageError(f"Every stage has at least one residual block, got {blocks}.")
    return nn.Sequential(*(Block(wide if i == 0 else out, out) for i in range(blocks)))
