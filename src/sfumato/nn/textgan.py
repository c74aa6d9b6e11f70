"""Networks that turn a sentence and noise into a picture, and critics that know which sentence belongs to it.

Deep fusion (Tao et al., CVPR 2022, arXiv 2008.05865), with parameters named as in its authors' files, word
attention (Xu et al., CVPR 2018, arXiv 1711.10485), stacked stages (Zhang et al., ICCV 2017, 1612.03242).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from sfumato.errors import UsageError
from sfumato.nn.layers import doubled, zeroed

SMALLEST_MAP = 3
"""Least height and width of a generator's first map."""
WIDEST = 8
"""No layer has more than this many times the channels next to the picture."""


# --- deep fusion -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FusionConfig:
    """The shape of DF-GAN's networks; as it stands, the published ones for pictures of 256 x 256."""

    channels: int = 3
    base: tuple[int, int] = (4, 4)
    """Height and width of the first map."""
    blocks: int = 6
    """How often the map is doubled until it is the picture."""
    width: int = 32
    """Channels next to the picture; they double from block to block towards the first map, up to 8 times."""
    noise: int = 100
    sentence: int = 256
    words: int = 0
    """Width of the words that picture places look at; 0 looks at none."""
    attend: int = 2
    """After how many blocks they look, if they do."""

    @property
    def widths(self) -> list[int]:
        """Channels from the first map to the picture."""
        return [self.width * min(2**k, WIDEST) for k in reversed(range(self.blocks + 1))]


class FusionGenerator(nn.Module):
    """Grows a map from noise; in every block noise and sentence scale and shift the channels, four times."""

    def __init__(self, config: FusionConfig):
        super().__init__()
        self.config = c = config
        widths, told = c.widths, c.noise + c.sentence
        self.fc = nn.Linear(c.noise, widths[0] * math.prod(c.base))
        self.GBlocks = nn.ModuleList(_GrowingBlock(told, *pair) for pair in pairwise(widths))
        self.attention = WordAttention(widths[c.attend], c.words) if c.words else None
        self.to_rgb = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], c.channels, 3, padding=1), nn.Tanh()
        )

    def forward(
        self,
        z: Float[Tensor, "b n"],
        sentence: Float[Tensor, "b s"],
        words: Float[Tensor, "b l e"] | None = None,
        held: Bool[Tensor, "b l"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """``held`` says which places of ``words`` hold a word; both are read only by a net that attends."""
        told = torch.cat([z, sentence], 1)
        x = self.fc(z).unflatten(1, (-1, *self.config.base))
        for k, block in enumerate(self.GBlocks):
            if (
                self.attention is not None
                and k == self.config.attend
                and words is not None
                and held is not None
            ):
                x = x + self.attention(x, words, held)[0]
            x = block(x, told)
        return self.to_rgb(x)


class _GrowingBlock(nn.Module):
    def __init__(self, told: int, inside: int, outside: int):
        super().__init__()
        self.c1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.c2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.fuse1 = Fusion(told, inside)
        self.fuse2 = Fusion(told, outside)
        self.c_sc = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b i h w"], told: Float[Tensor, "b t"]
    ) -> Float[Tensor, "b o h*2 w*2"]:
        """What is done to each place alone is done before places are repeated: the same for a quarter."""
        h = doubled(self.fuse1(x, told), self.c1)
        return interpolate(self.c_sc(x), scale_factor=2, mode="nearest") + self.c2(self.fuse2(h, told))


class Fusion(nn.Module):
    """Two affine layers that the condition controls, each with a leaky rectifier (section 3.4, DFBlock)."""

    def __init__(self, told: int, width: int):
        super().__init__()
        self.affine0, self.affine1 = Affine(told, width), Affine(told, width)

    def forward(self, x: Float[Tensor, "b c h w"], told: Float[Tensor, "b t"]) -> Float[Tensor, "b c h w"]:
        return leaky_relu(self.affine1(leaky_relu(self.affine0(x, told), 0.2), told), 0.2)


class Affine(nn.Module):
    """Each channel times gamma plus beta, both read from the condition by small networks."""

    def __init__(self, told: int, width: int):
        super().__init__()
        self.fc_gamma, self.fc_beta = (_two_layers(told, width) for _ in range(2))
        nn.init.ones_(self.fc_gamma.get_parameter("linear2.bias"))

    def forward(self, x: Float[Tensor, "b c h w"], told: Float[Tensor, "b t"]) -> Float[Tensor, "b c h w"]:
        return self.fc_gamma(told)[..., None, None] * x + self.fc_beta(told)[..., None, None]


def _two_layers(inside: int, width: int) -> nn.Sequential:
    last = zeroed(nn.Linear(width, width))
    layers = {"linear1": nn.Linear(inside, width), "relu1": nn.ReLU(), "linear2": last}
    return nn.Sequential(OrderedDict(layers))


class WordAttention(nn.Module):
    """Every place of a map looks at the words and takes in those that concern it (Xu et al. 2018, eq. 2)."""

    def __init__(self, width: int, words: int):
        super().__init__()
        self.project = nn.Linear(words, width)
        self.mix = nn.Conv2d(2 * width, width, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], words: Float[Tensor, "b l e"], held: Bool[Tensor, "b l"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b l h w"]]:
        """What to add to the map, and how much each place looks at each word."""
        keys = self.project(words)
        scores = torch.einsum("bchw,blc->blhw", x, keys).float() / x.shape[1] ** 0.5
        empty = ~(held | ~held.any(1, keepdim=True))  # no words at all: look everywhere, and see nothing
        looks = scores.masked_fill(empty[..., None, None], -torch.inf).softmax(1)
        found = torch.einsum("blhw,blc->bchw", looks.to(keys), keys)
        return self.mix(torch.cat([x, found.to(x)], 1)), looks


class FusionCritic(nn.Module):
    """Halves a picture block by block until it is as small as the generator's first map."""

    def __init__(self, config: FusionConfig):
        super().__init__()
        widths = config.widths[::-1]
        self.conv_img = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.DBlocks = nn.ModuleList(_HalvingBlock(*pair) for pair in pairwise(widths))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        x = self.conv_img(x)
        for block in self.DBlocks:
            x = block(x)
        return x


class _HalvingBlock(nn.Module):
    """What it adds to the halved map grows from nothing.

    The authors' code has a ``conv_s`` in every block and uses it where channels change; here it always works.
    """

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.conv_r = nn.Sequential(
            nn.Conv2d(inside, outside, 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.LeakyReLU(0.2),
        )
        self.conv_s = nn.Conv2d(inside, outside, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o p q"]:
        return self.conv_s(halved(x)) + self.gamma * self.conv_r(x)


class FusionJudge(nn.Module):
    """One number for a picture's map and a sentence together (section 3.3, one-way output)."""

    def __init__(self, config: FusionConfig):
        super().__init__()
        width = config.width
        self.joint_conv = nn.Sequential(
            nn.Conv2d(config.widths[0] + config.sentence, 2 * width, 3, padding=1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, config.base, bias=False),
        )

    def forward(self, seen: Float[Tensor, "b d i j"], sentence: Float[Tensor, "b s"]) -> Float[Tensor, " b"]:
        return self.joint_conv(beside(seen, sentence)).flatten()


def halved(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
    """The mean of every square of 2 x 2; on a CPU in bf16 several times as fast as PyTorch's pooling."""
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def beside(x: Float[Tensor, "b c h w"], vector: Float[Tensor, "b s"]) -> Float[Tensor, "b e h w"]:
    """A map with a vector at every place."""
    return torch.cat([x, vector[..., None, None].expand(-1, -1, *x.shape[2:]).to(x)], 1)


# --- stacked stages ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class StackConfig:
    """The shape of StackGAN's networks; as it stands, the paper's for 64 x 64 and 256 x 256 pixels."""

    channels: int = 3
    base: tuple[int, int] = (4, 4)
    """Height and width of the first map."""
    blocks: int = 4
    """How often the map is doubled until it is the small picture."""
    doublings: int = 2
    """How often the small picture is doubled until it is the large one."""
    residual: int = 4
    """Blocks in which the second stage thinks, at the lowest of its sizes."""
    width: int = 64
    """Channels next to the small picture."""
    critic: int = 64
    """Channels of the critic's first layer."""
    noise: int = 100
    sentence: int = 1024
    told: int = 128
    """Numbers to which a sentence is condensed."""


class Augmentation(nn.Module):
    """A cloud of conditions around each sentence (section 3.2): mean and logarithm of variance."""

    def __init__(self, sentence: int, told: int):
        super().__init__()
        self.fc = nn.Linear(sentence, 2 * told)

    def forward(
        self, sentence: Float[Tensor, "b s"], noise: Float[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, ""]]:
        """A condition drawn with ``noise``, and how far its cloud is from N(0, 1) in nats a number."""
        mean, logvar = self.fc(sentence).float().chunk(2, 1)
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return mean + (logvar / 2).exp() * noise.to(mean), divergence


class FirstStage(nn.Module):
    """Sketches the picture small, from noise and a condition (section 3.3)."""

    def __init__(self, config: StackConfig):
        super().__init__()
        self.config = c = config
        widths = [c.width * 2**k for k in reversed(range(c.blocks + 1))]
        self.augmentation = Augmentation(c.sentence, c.told)
        self.fc = nn.Linear(c.noise + c.told, widths[0] * math.prod(c.base), bias=False)
        self.norm = nn.BatchNorm1d(widths[0] * math.prod(c.base))
        self.blocks = nn.Sequential(*(_doubling(*pair) for pair in pairwise(widths)))
        self.to_rgb = nn.Conv2d(widths[-1], c.channels, 3, padding=1)

    def forward(
        self, z: Float[Tensor, "b n"], sentence: Float[Tensor, "b s"], noise: Float[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""]]:
        """The picture, and the divergence of the condition's cloud."""
        told, divergence = self.augmentation(sentence, noise)
        x = self.norm(self.fc(torch.cat([z, told.to(z)], 1))).relu().unflatten(1, (-1, *self.config.base))
        return self.to_rgb(self.blocks(x)).tanh(), divergence


class SecondStage(nn.Module):
    """Reads the sketch, remembers what was said, and paints the picture anew, larger (section 3.4)."""

    def __init__(self, config: StackConfig):
        super().__init__()
        c = config
        widths = [c.width * 2**k for k in range(c.doublings + 1)]
        deep = widths[-1]
        self.augmentation = Augmentation(c.sentence, c.told)
        self.read = nn.Sequential(
            nn.Conv2d(c.channels, c.width, 3, padding=1),
            nn.ReLU(),
            *(_halving(*pair) for pair in pairwise(widths)),
        )
        self.join = _convolution(deep + c.told, deep)
        self.think = nn.Sequential(*(_Residual(deep) for _ in range(c.residual)))
        paint = [max(deep >> k, c.width // 2) for k in range(2 * c.doublings + 1)]
        self.paint = nn.Sequential(*(_doubling(*pair) for pair in pairwise(paint)))
        self.to_rgb = nn.Conv2d(paint[-1], c.channels, 3, padding=1)

    def forward(
        self, sketch: Float[Tensor, "b c i j"], sentence: Float[Tensor, "b s"], noise: Float[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""]]:
        """The picture, and the divergence of the condition's cloud."""
        told, divergence = self.augmentation(sentence, noise)
        x = self.think(self.join(beside(self.read(sketch), told)))
        return self.to_rgb(self.paint(x)).tanh(), divergence


class StackCritic(nn.Module):
    """Halves the picture to a first map's size and judges it together with a sentence (section 3.3)."""

    def __init__(self, config: StackConfig, halvings: int):
        super().__init__()
        c = config
        widths = [c.critic * min(2**k, WIDEST) for k in range(halvings)]
        self.condense = nn.Sequential(nn.Linear(c.sentence, c.told), nn.LeakyReLU(0.2))
        self.look = nn.Sequential(
            nn.Conv2d(c.channels, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            *(_halving(*pair, leak=0.2) for pair in pairwise(widths)),
        )
        self.judge = nn.Sequential(
            _convolution(widths[-1] + c.told, widths[-1], leak=0.2), nn.Conv2d(widths[-1], 1, c.base)
        )

    def forward(self, x: Float[Tensor, "b c h w"], *sentences: Float[Tensor, "b s"]) -> Float[Tensor, "k b"]:
        """A verdict on the pictures with each of these sentences."""
        seen = self.look(x)
        return torch.stack([self.judge(beside(seen, self.condense(s))).flatten() for s in sentences])


def _rectifier(leak: float) -> nn.Module:
    return nn.LeakyReLU(leak) if leak else nn.ReLU()


def _convolution(inside: int, outside: int, leak: float = 0.0) -> nn.Sequential:
    conv = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), _rectifier(leak))


def _doubling(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), *_convolution(inside, outside))


def _halving(inside: int, outside: int, leak: float = 0.0) -> nn.Sequential:
    conv = nn.Conv2d(inside, outside, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), _rectifier(leak))


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(*_convolution(width, width), *list(_convolution(width, width))[:2])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return (x + self.body(x)).relu()


# --- sizes, and which captions are wrong -------------------------------------------------------------


def doublings(height: int, width: int) -> int:
    """How often the first map, of 3 to 5 pixels on its shorter side, is doubled.

    >>> doublings(32, 32), doublings(24, 40), doublings(256, 256)
    (3, 3, 6)

    Raises ``UsageError`` for sizes that cannot be halved so often.
    """
    times = int(math.log2(max(min(height, width) / SMALLEST_MAP, 1)))
    if not times or height % 2**times or width % 2**times:
        raise UsageError(
            f"Height and width must be multiples of {2 ** max(times, 1)} and at least {2 * SMALLEST_MAP}, "
            f"got {height} x {width}; choose another --size."
        )
    return times


def mismatched(ids: Int[Tensor, "b l"]) -> Int[Tensor, " b"]:
    """For every caption, the row of the most similar other one that still cannot be true of its picture.

    Two captions contradict each other, we suppose, if each has a word that the other lacks: then one may say
    "red" where the other says "blue". Of those, the one with most words in common teaches most. Where there
    is none, the next row is taken; alone, a caption is its own opponent. 0 is an empty place.
    """
    b = len(ids)
    bags = torch.zeros(b, int(ids.max()) + 1, device=ids.device).scatter_(1, ids, 1.0)
    bags[:, 0] = 0
    common = bags @ bags.T
    count = bags.sum(1)
    lacks = count[:, None] - common
    alike = torch.where((lacks > 0) & (lacks.T > 0), common / (count + lacks.T).clamp(min=1), -1.0)
    best, row = alike.max(1)
    following = (torch.arange(b, device=ids.device) + 1) % b
    return torch.where(best >= 0, row, following)
