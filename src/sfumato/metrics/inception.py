"""InceptionV3 as the Frechet Inception distance has it: TensorFlow's network of 2015-12-05, in PyTorch.

Names and shapes are those of pytorch-fid's ``pt_inception-2015-12-05-6726825d.pth`` (torch-fidelity's file
is the same), so that a user's copy loads; no weights come with sfumato. Three things differ from the paper
(Szegedy et al. 2016): average pools leave padding out of the mean, the last block pools by maximum (a slip of
the original that scores depend on), and there are 1008 classes.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, interpolate, max_pool2d, relu

from sfumato.errors import DataError

SIDE = 299
FEATURES = 2048
CLASSES = 1008
Resize = Literal["tensorflow", "pytorch-fid"]


class Norm(nn.Module):
    """Batch normalisation with fixed statistics; the original's epsilon is 0.001."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int):
        super().__init__()
        for name in ("weight", "running_var"):
            self.register_buffer(name, torch.ones(channels))
        for name in ("bias", "running_mean"):
            self.register_buffer(name, torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-3)


class Conv(nn.Module):
    """Convolution without bias, normalisation, ReLU; ``size`` is (height, width) of the kernel."""

    def __init__(self, inner: int, outer: int, size: tuple[int, int], *, stride: int = 1, pad: bool = True):
        super().__init__()
        padding = (size[0] // 2, size[1] // 2) if pad else 0
        self.conv = nn.Conv2d(inner, outer, size, stride, padding, bias=False)
        self.bn = Norm(outer)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o y x"]:
        return relu(self.bn(self.conv(x)))


class Step(NamedTuple):
    """One convolution of a block: its name, what it reads (a name, or the block's input), and its shape."""

    name: str
    reads: str | None
    channels: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1


Pool = Literal["average", "maximum", "shrink"]


class Mixed(nn.Module):
    """A block of parallel branches, joined by channels in the order in which they are listed.

    ``pool`` adds a branch: the input averaged, or its maximum, over 3 x 3, then ``pooled`` channels by a
    1 x 1 convolution; "shrink" takes the maximum at stride 2 and no convolution.
    """

    def __init__(self, inner: int, steps: tuple[Step, ...], pool: Pool, pooled: int = 0):
        super().__init__()
        self.steps, self.pool = steps, pool
        widths: dict[str | None, int] = {None: inner}
        for step in steps:
            conv = Conv(
                widths[step.reads], step.channels, step.size, stride=step.stride, pad=step.stride == 1
            )
            self.add_module(step.name, conv)
            widths[step.name] = step.channels
        if pooled:
            self.branch_pool = Conv(inner, pooled, (1, 1))
        read = {step.reads for step in steps}
        self.ends = tuple(step.name for step in steps if step.name not in read)
        self.channels = sum(widths[end] for end in self.ends) + (pooled or inner)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o y x"]:
        seen: dict[str | None, Tensor] = {None: x}
        for step in self.steps:
            seen[step.name] = self.get_submodule(step.name)(seen[step.reads])
        return torch.cat([*(seen[end] for end in self.ends), self._pooled(x)], 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "shrink":
            return max_pool2d(x, 3, 2)
        if self.pool == "maximum":
            return self.branch_pool(max_pool2d(x, 3, 1, 1))
        return self.branch_pool(avg_pool2d(x, 3, 1, 1, count_include_pad=False))


def _around_35(inner: int, pooled: int) -> Mixed:
    steps = (
        Step("branch1x1", None, 64),
        Step("branch5x5_1", None, 48),
        Step("branch5x5_2", "branch5x5_1", 64, (5, 5)),
        Step("branch3x3dbl_1", None, 64),
        Step("branch3x3dbl_2", "branch3x3dbl_1", 96, (3, 3)),
        Step("branch3x3dbl_3", "branch3x3dbl_2", 96, (3, 3)),
    )
    return Mixed(inner, steps, "average", pooled)


def _from_35_to_17(inner: int) -> Mixed:
    steps = (
        Step("branch3x3", None, 384, (3, 3), 2),
        Step("branch3x3dbl_1", None, 64),
        Step("branch3x3dbl_2", "branch3x3dbl_1", 96, (3, 3)),
        Step("branch3x3dbl_3", "branch3x3dbl_2", 96, (3, 3), 2),
    )
    return Mixed(inner, steps, "shrink")


def _around_17(inner: int, width: int) -> Mixed:
    steps = (
        Step("branch1x1", None, 192),
        Step("branch7x7_1", None, width),
        Step("branch7x7_2", "branch7x7_1", width, (1, 7)),
        Step("branch7x7_3", "branch7x7_2", 192, (7, 1)),
        Step("branch7x7dbl_1", None, width),
        Step("branch7x7dbl_2", "branch7x7dbl_1", width, (7, 1)),
        Step("branch7x7dbl_3", "branch7x7dbl_2", width, (1, 7)),
        Step("branch7x7dbl_4", "branch7x7dbl_3", width, (7, 1)),
        Step("branch7x7dbl_5", "branch7x7dbl_4", 192, (1, 7)),
    )
    return Mixed(inner, steps, "average", 192)


def _from_17_to_8(inner: int) -> Mixed:
    steps = (
        Step("branch3x3_1", None, 192),
        Step("branch3x3_2", "branch3x3_1", 320, (3, 3), 2),
        Step("branch7x7x3_1", None, 192),
        Step("branch7x7x3_2", "branch7x7x3_1", 192, (1, 7)),
        Step("branch7x7x3_3", "branch7x7x3_2", 192, (7, 1)),
        Step("branch7x7x3_4", "branch7x7x3_3", 192, (3, 3), 2),
    )
    return Mixed(inner, steps, "shrink")


def _around_8(inner: int, pool: Pool) -> Mixed:
    steps = (
        Step("branch1x1", None, 320),
        Step("branch3x3_1", None, 384),
        Step("branch3x3_2a", "branch3x3_1", 384, (1, 3)),
        Step("branch3x3_2b", "branch3x3_1", 384, (3, 1)),
        Step("branch3x3dbl_1", None, 448),
        Step("branch3x3dbl_2", "branch3x3dbl_1", 384, (3, 3)),
        Step("branch3x3dbl_3a", "branch3x3dbl_2", 384, (1, 3)),
        Step("branch3x3dbl_3b", "branch3x3dbl_2", 384, (3, 1)),
    )
    return Mixed(inner, steps, pool, 192)


class InceptionV3(nn.Module):
    """The network itself: 299 x 299 pictures, already scaled, to 2048 features and 1008 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, (3, 3), stride=2, pad=False)
        self.Conv2d_2a_3x3 = Conv(32, 32, (3, 3), pad=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Conv(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Conv(80, 192, (3, 3), pad=False)
        self.Mixed_5b = _around_35(192, 32)
        self.Mixed_5c = _around_35(256, 64)
        self.Mixed_5d = _around_35(288, 64)
        self.Mixed_6a = _from_35_to_17(288)
        self.Mixed_6b = _around_17(768, 128)
        self.Mixed_6c = _around_17(768, 160)
        self.Mixed_6d = _around_17(768, 160)
        self.Mixed_6e = _around_17(768, 192)
        self.Mixed_7a = _from_17_to_8(768)
        self.Mixed_7b = _around_8(1280, "average")
        self.Mixed_7c = _around_8(2048, "maximum")
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Features of pool3: the last block, averaged over the picture."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))

    def logits(self, features: Float[Tensor, "b 2048"]) -> Float[Tensor, "b 1008"]:
        """Logits without the bias, which is what the published inception scores use."""
        return features @ self.fc.weight.T


def load_inception(path: str | Path) -> InceptionV3:
    """Read the network from a user's weight file (``.pth`` or ``.safetensors``); nothing is downloaded."""
    given = {k: v for k, v in _read(Path(path)).items() if not k.endswith("num_batches_tracked")}
    network = InceptionV3()
    wanted = network.state_dict()
    wrong = sorted(k for k in given.keys() & wanted.keys() if given[k].shape != wanted[k].shape)
    if given.keys() != wanted.keys() or wrong:
        first = sorted(given.keys() ^ wanted.keys()) + wrong
        raise DataError(
            f"'{path}' is not InceptionV3 in the layout of pytorch-fid: {len(wanted.keys() - given.keys())} "
            f"tensors missing, {len(given.keys() - wanted.keys())} unknown, {len(wrong)} of another shape, "
            f"first '{first[0]}'; give a copy of pt_inception-2015-12-05-6726825d.pth."
        )
    network.load_state_dict({name: tensor.float() for name, tensor in given.items()})
    return network.eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"Cannot read Inception weights from '{path}': {reason}. "
            "Give a plain state dictionary as .pth or .safetensors; nothing else is unpickled."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise DataError(
            f"'{path}' holds no state dictionary; give names and tensors as .pth or .safetensors."
        )
    return dict(found)


def prepared(pixels: Float[Tensor, "b c h w"], resize: Resize) -> Float[Tensor, "b 3 299 299"]:
    """Pictures in [-1, 1] as the network wants them: 256 levels, three channels, 299 x 299, not antialiased.

    "tensorflow" is the resize of the original (and of torch-fidelity and torchmetrics), whose grid starts at
    the corner; "pytorch-fid" is PyTorch's bilinear resize. Scores of the two differ a little.
    """
    levels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round()
    levels = levels.expand(-1, 3, -1, -1)
    if resize == "pytorch-fid":
        return interpolate(levels / 255, (SIDE, SIDE), mode="bilinear") * 2 - 1
    rows, columns = (_corner_grid(n).to(levels) for n in levels.shape[2:])
    return (rows @ levels @ columns.T - 128) / 128


def _corner_grid(size: int) -> Tensor:
    """TensorFlow 1's bilinear resize of one axis as a matrix: output i reads at i * size / 299."""
    at = torch.arange(SIDE) * (size / SIDE)
    low = at.floor().long()
    high, share = (low + 1).clamp(max=size - 1), (at - low)[:, None]
    eye = torch.eye(size)
    return eye[low] * (1 - share) + eye[high] * share
