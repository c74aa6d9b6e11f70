"""The network of a reader: bend straight, look, read the row both ways, spell.

Baek et al. 2019 (arXiv 1904.01906, section 3): transformation, features, sequence, prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.errors import UsageError
from sfumato.nn.recurrent import AttentionDecoder, BiLSTM
from sfumato.nn.tps import TPS, TPSConfig
from sfumato.nn.word_resnet import LOWEST, WordResNet, WordResNetConfig

GO, END, BLANK = 0, 1, 0
"""Numbers that are no letters: of the decoder's start (which also fills up) and end, of CTC's blank."""
SPECIAL = {"attention": 2, "ctc": 1}
"""How many such numbers each head has."""


@dataclass(frozen=True)
class ReaderConfig:
    """Shape of the networks."""

    transformation: Literal["tps", "none"] = "tps"
    """Whether a thin-plate spline bends pictures straight before they are read."""
    head: Literal["attention", "ctc"] = "attention"
    """What spells: a decoder that looks along the row, or one answer a place."""
    channels: int = 1
    height: int = 32
    width: int = 100
    """Pixels; pictures of other sizes are scaled to it."""
    tps: TPSConfig = TPSConfig()
    resnet: WordResNetConfig = WordResNetConfig()
    hidden: int = 256
    """Numbers in each LSTM."""
    guide: float = 0.0
    """Weight of a CTC loss on the row while a decoder learns, by which it sooner finds where letters stand
    (Kim et al. 2017, arXiv 1609.06773). The paper has none."""


class Said(NamedTuple):
    """Logits; None where there are none."""

    letters: Float[Tensor, "b t k"] | None
    """Of the letter after each that was told: the decoder's."""
    places: Float[Tensor, "b l j"] | None
    """Of each place of the row, the blank first: CTC's."""


class Reader(nn.Module):
    """From pictures (b, c, height, width) to logits of ``classes`` letters and numbers that are none.

    All but the transformer begins as the paper's code lets it (He et al. 2015).
    """

    def __init__(self, config: ReaderConfig, classes: int):
        super().__init__()
        c = config
        if c.height < LOWEST or c.width < LOWEST:
            raise UsageError(
                f"A reader needs pictures of {LOWEST} x {LOWEST} pixels or more, got {c.height} x {c.width}; "
                "set --network.height and --network.width (data of any size is scaled to them)."
            )
        self.config = config
        bends = c.transformation == "tps"
        self.transformation = TPS(c.channels, c.height, c.width, c.tps) if bends else None
        self.features = WordResNet(c.channels, c.resnet)
        wide = c.resnet.features
        self.sequence = nn.Sequential(BiLSTM(wide, c.hidden, c.hidden), BiLSTM(c.hidden, c.hidden, c.hidden))
        self.prediction: AttentionDecoder | nn.Linear = (
            AttentionDecoder(c.hidden, c.hidden, classes, go=GO, end=END)
            if c.head == "attention"
            else nn.Linear(c.hidden, classes)
        )
        guided = c.head == "attention" and c.guide > 0
        self.guide = nn.Linear(c.hidden, classes - 1) if guided else None
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and not name.endswith("localization_fc2"):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def places(self) -> int:
        """Length of the row."""
        return self.config.width // 4 + 1

    def row(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b l d"]:
        """What stands in the picture, from left to right."""
        x = _channels_last(x)
        straight = x if self.transformation is None else _channels_last(self.transformation(x))
        row: Tensor = self.sequence(self.features(straight))
        return row

    def forward(self, x: Float[Tensor, "b c h w"], before: Int[Tensor, "b t"]) -> Said:
        """What is said of pictures, told the true letters from the start on (which CTC does not hear)."""
        row = self.row(x)
        if isinstance(self.prediction, AttentionDecoder):
            return Said(self.prediction(row, before), None if self.guide is None else self.guide(row))
        return Said(None, self.prediction(row))


def _channels_last(x: Tensor) -> Tensor:
    """The same in the layout in which convolutions and poolings of few channels are several times faster.

    Only ``to`` changes the strides of a single channel, which are all that tells layouts apart there.
    """
    return x.to(memory_format=torch.channels_last)
