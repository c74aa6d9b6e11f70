"""AttentionHTR: reads the picture of a handwritten word, letter by letter, looking where it must.

Kass & Vats: AttentionHTR: Handwritten Text Recognition Based on Attention Encoder-Decoder Networks, DAS 2022,
arXiv 2201.09390, upon Baek et al.: What Is Wrong With Scene Text Recognition Model Comparisons?, ICCV 2019,
arXiv 1904.01906. The picture is bent straight by a thin-plate spline, a residual network makes a row of
features of it, two LSTMs read the row both ways, and a decoder spells. The head of CTC (Graves et al. 2006)
is the paper's ablation: one answer a place, in which blanks and repeats are then struck out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, cross_entropy, ctc_loss, grid_sample, pad

from sfumato.compat import attentionhtr
from sfumato.core.request import Event, Progress, Read, Text
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.data.frame import dark_on_light, framed, reframed, stretched
from sfumato.data.letters import Letters
from sfumato.errors import DataError, UsageError
from sfumato.nn.recurrent import AttentionDecoder
from sfumato.nn.tps import TPSConfig
from sfumato.nn.word_reader import BLANK, END, GO, SPECIAL, Reader, ReaderConfig
from sfumato.nn.word_resnet import WordResNetConfig

DIGITS_AND_SMALL = "0123456789abcdefghijklmnopqrstuvwxyz"
CHUNK = 64
"""Pictures read at once."""
SHAKES = 9
"""Random numbers that decide how a picture is shaken."""
TURN, SLANT = 0.06, 0.35
"""Tangents of the most that a picture is turned, and that its letters lean."""
ROOM, WIDER = 0.05, 0.1
"""Logarithm of how much wider the frame becomes, so that what leans has room, and how much that varies."""
RIGHT, DOWN = 0.04, 0.05
"""Shifts, of half the frame's width and height."""
CLOSE, CLOSER = 1.25, 0.2
"""Height of a frame that is cut close, as by scissors, in heights of its ink, and how much that varies."""
TONE, GAIN = 0.3, 0.8
"""How much lighter or darker a picture becomes, and the logarithm of its contrast."""


@dataclass(frozen=True)
class HTRConfig:
    """Networks, letters, and how pictures are brought before them."""

    network: ReaderConfig = ReaderConfig()
    characters: str = ""
    """What it can read; empty means the characters of the data. Capitals count as small letters if none is
    among them."""
    longest: int = 25
    """Letters of a word, at most."""
    stretch: float = 0.0
    """How many times wider or higher pictures may become to fill the frame; 0, as in the paper, is without
    limit."""
    shake: float = 0.0
    """How much pictures are turned, slanted, shifted, scaled and faded in training; 1 is much."""
    optim: OptimConfig = OptimConfig(lr=1e-3, clip=5.0)
    """The paper's Adadelta is not offered."""


class AttentionHTR(System[Read]):
    """Reads pictures of words; the likeliest reading and its probability."""

    tasks = (Read,)
    needs = frozenset({"image", "text"})
    Config = HTRConfig
    published = attentionhtr.PUBLISHED

    def __init__(self, config: HTRConfig):
        super().__init__()
        if config.longest < 1:
            raise UsageError(f"Words have at least 1 letter, got --longest {config.longest}.")
        self.config = config
        self.letters = Letters(config.characters or DIGITS_AND_SMALL, SPECIAL[config.network.head])
        self.network = Reader(config.network, self.letters.size)

    @classmethod
    def fit(cls, config: HTRConfig, facts: Facts) -> HTRConfig:
        characters = config.characters or facts.characters
        network = replace(config.network, channels=facts.channels)
        places = network.width // 4 + 1
        if network.head == "ctc" and config.longest > places:
            raise UsageError(
                f"CTC gives one answer a place, and pictures of {network.width} pixels have {places} places, "
                f"too few for {config.longest} letters; set --network.width {4 * config.longest}."
            )
        return replace(config, network=network, characters=characters)

    def players(self) -> dict[str, Player]:
        network = self.network
        return {
            "reader": Player((network,), self.config.optim, (network.features.conv0_1, network.prediction))
        }

    @property
    def channels(self) -> int:
        return self.config.network.channels

    @torch.no_grad()
    def adopt(self, base: System[Any]) -> None:
        """Go on from another reader (the paper's transfer learning); letters it does not know begin anew."""
        if not isinstance(base, AttentionHTR) or not _alike(base.config.network, self.config.network):
            raise DataError(
                f"AttentionHTR goes on from a reader of its own shape, got a {type(base).__name__} that "
                "differs; leave --network settings as they were when it was trained."
            )
        mine, theirs = self.letters.characters, base.letters.characters
        known = [c for c in mine if c in theirs]
        given = base.network.state_dict()
        for name, tensor in self.network.state_dict().items():
            if name in given and name not in _LETTERS:
                tensor.copy_(given[name])
            elif name in given:
                own, other = (x.transpose(0, _LETTERS[name]) for x in (tensor, given[name].to(tensor)))
                rest = len(own) - len(mine)
                own[:rest] = other[:rest]
                own[[rest + mine.index(c) for c in known]] = other[[rest + theirs.index(c) for c in known]]

    @classmethod
    def from_file(cls, path: Path) -> AttentionHTR:
        """A public reader: AttentionHTR's own weights, or those of the benchmark it builds on."""
        found = attentionhtr.read_reader(path)
        system = cls(HTRConfig(network=found.config, characters=found.characters))
        system.network.load_state_dict(found.tensors)
        return system

    def _laid(self, x: Float[Tensor, "b c h w"], extent: Float[Tensor, "b 2"] | None) -> Tensor:
        """Pictures as the network wants them, with dark ink."""
        c, n = self.config, self.config.network
        x = dark_on_light(x)
        if extent is not None:
            x = reframed(x, extent, c.stretch)
        elif x.shape[2:] != (n.height, n.width):
            return framed(x, n.height, n.width, c.stretch).pixels
        return stretched(x, n.height, n.width)

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """The decoder is told what truly stood before each letter; what fills up short words does not count.

        CTC counts all ways to place the letters, and leaves out words that cannot be placed.
        """
        c = self.config
        x = self._laid(batch["image"], batch.get("extent"))
        if c.shake > 0:
            x = shaken(x, batch.rng, c.shake)
        texts = [self.letters.known(text) for text in batch["text"]]
        letters = self.letters.encode(texts, c.longest).to(x.device)
        lengths = torch.tensor([len(text) for text in texts], device=x.device)
        most = int(lengths.max()) + 1
        before, after = told(letters, lengths)
        said = self.network(x, before[:, :most])
        parts = {}
        if said.letters is not None:
            logits = said.letters.float().flatten(0, 1)
            parts["letters"] = cross_entropy(logits, after[:, :most].flatten(), ignore_index=GO)
        if said.places is not None:
            logs = said.places.float().log_softmax(2).transpose(0, 1)
            numbers = (letters - (self.letters.special - 1)).clamp(min=0)
            every = torch.full_like(lengths, len(logs))
            weight = c.network.guide if parts else 1.0
            parts["places"] = weight * ctc_loss(logs, numbers, every, lengths, BLANK, zero_infinity=True)
        yield Loss.sum("reader", **parts)

    @torch.no_grad()
    def run(self, request: Read) -> Iterator[Event]:
        """Read all pictures, a chunk at a time."""
        x = request.images.to(self.device)
        if x.shape[1] != self.channels:
            raise UsageError(
                f"This model reads pictures of {self.channels} channels, got {x.shape[1]}; "
                "convert them first."
            )
        texts: list[str] = []
        sure: list[float] = []
        for part in x.split(CHUNK):
            found, how_sure = self.read(self._laid(part.float(), None), request.beam)
            texts += found
            sure += how_sure
            yield Progress(len(texts) / len(x))
        notes: tuple[str, ...] = ()
        if request.beam > 1 and self.config.network.head == "ctc":
            notes = ("A reader with the head of CTC has no beam; it was ignored.",)
        yield Text(tuple(texts), tuple(sure), notes)

    def read(self, x: Float[Tensor, "b c h w"], beam: int = 1) -> tuple[list[str], list[float]]:
        """What stands in pictures as the network wants them, and its probability.

        The decoder's is that of the whole reading, its end included; CTC's that of the likeliest path.
        """
        row = self.network.row(x.to(self.dtype))
        spells = self.network.prediction
        if isinstance(spells, AttentionDecoder):
            found = spells.spell(row, self.config.longest, beam)
            return self.letters.decode(found.letters[:, 0]), found.logs[:, 0].exp().tolist()
        shares, best = spells(row).float().softmax(2).max(2)
        fresh = torch.ones_like(best, dtype=torch.bool)
        fresh[:, 1:] = best[:, 1:] != best[:, :-1]
        return self.letters.decode(torch.where(fresh, best, BLANK)), shares.log().sum(1).exp().tolist()


def told(
    letters: Int[Tensor, "b l"], lengths: Int[Tensor, " b"]
) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    """Of each word what the decoder is told, and what it should say: go, a, b, c and a, b, c, end."""
    before = pad(letters, (1, 0), value=GO)
    after = pad(letters, (0, 1), value=GO)
    return before, after.scatter(1, lengths[:, None], END)


def shaken(x: Float[Tensor, "b c h w"], rng: Rng, much: float) -> Float[Tensor, "b c h w"]:
    """Pictures as other hands, scissors and scanners would have made them: turned, slanted, cut closer or
    wider, moved, blurred, faded."""
    chance = (2 * torch.special.ndtr(rng.normal(SHAKES)) - 1).to(x.device) * much
    height, width = x.shape[2:]
    turn, slant, right, down, wide, high, fade, ink, soft = chance.unbind(1)
    low, top = _reach(x)
    matrix = torch.zeros(len(x), 2, 3, device=x.device)
    matrix[:, 0, 0] = (WIDER * (wide + slant.abs()) + ROOM * much).exp()
    close = (top - low) / 2 * (CLOSE + CLOSER * down)
    matrix[:, 1, 1] = torch.lerp(torch.ones_like(high), close, high.abs())
    matrix[:, 0, 1] = (SLANT * slant + TURN * turn) * height / width
    matrix[:, 1, 0] = -TURN * turn * width / height
    matrix[:, 0, 2] = RIGHT * right
    matrix[:, 1, 2] = high.abs() * (top + low) / 2 + DOWN * down
    grid = affine_grid(matrix, list(x.shape), align_corners=False)
    x = grid_sample(x.float(), grid, padding_mode="border", align_corners=False)
    x = torch.lerp(
        x, avg_pool2d(pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1), soft.abs()[:, None, None, None]
    )
    tone, gain = TONE * fade, (GAIN * ink).exp()
    return (x * gain[:, None, None, None] + tone[:, None, None, None]).clamp(-1, 1)


def _reach(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Where dark ink begins and ends from above to below, from -1 to 1."""
    dark = x.mean(1).amin(2)
    inked = dark < (dark.amin(1, keepdim=True) + x.mean(1).flatten(1).median(1, keepdim=True).values) / 2
    rows = torch.arange(x.shape[2], device=x.device)
    first = torch.where(inked, rows, x.shape[2]).amin(1)
    last = torch.where(inked, rows, -1).amax(1) + 1
    return 2 * first / x.shape[2] - 1, 2 * last / x.shape[2] - 1


_LETTERS = {
    "prediction.weight": 0,
    "prediction.bias": 0,
    "prediction.generator.weight": 0,
    "prediction.generator.bias": 0,
    "prediction.attention_cell.rnn.weight_ih": 1,
    "guide.weight": 0,
    "guide.bias": 0,
}
"""Tensors that end, along this axis, with a place for each letter."""


def _alike(one: ReaderConfig, other: ReaderConfig) -> bool:
    """Whether the weights of one fit the other, whatever guided them and however large their pictures."""
    return replace(one, width=0, height=0, guide=0.0) == replace(other, width=0, height=0, guide=0.0)


_LAPTOP = HTRConfig(
    ReaderConfig(
        tps=TPSConfig(points=12, width=8, hidden=64, upright=True, align_corners=False),
        resnet=WordResNetConfig(64, (1, 1, 2, 1)),
        hidden=64,
        guide=0.5,
    ),
    longest=12,
    stretch=1.7,
    shake=0.5,
    optim=OptimConfig("muon", lr=3e-3, betas=(0.9, 0.99), clip=5.0, warmup=50, decay=0.5),
)
_TRAIN = TrainConfig(steps=2000, batch=32, ema=0.998)
AttentionHTR.presets = {
    "laptop": Preset(_LAPTOP, data="handwriting", size=32, train=_TRAIN),
    "no-tps": Preset(
        replace(_LAPTOP, network=replace(_LAPTOP.network, transformation="none")),
        data="handwriting",
        size=32,
        train=_TRAIN,
    ),
    "ctc": Preset(
        replace(_LAPTOP, network=replace(_LAPTOP.network, head="ctc", guide=0.0)),
        data="handwriting",
        size=32,
        train=_TRAIN,
    ),
    "paper": Preset(
        HTRConfig(characters=DIGITS_AND_SMALL, optim=OptimConfig(lr=1e-3, clip=5.0)),
        data="folder",
        size=32,
        train=TrainConfig(steps=300_000, batch=192, ema=0.0),
    ),
}
