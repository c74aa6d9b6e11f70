"""Feature spaces: our InceptionV3 against a plain transcription of the published graph, with random weights.

No pretrained file is at hand here, so what is checked is names, shapes, wiring and preparation, not that the
published weights give the published scores.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import DataError
from sfumato.metrics.features import Inception, Oracle, Pixels, frechet_name, kernel_name
from sfumato.metrics.inception import InceptionV3, load_inception, prepared

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Random weights of the right size, with statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    out = {}
    for name, like in InceptionV3().state_dict().items():
        x = torch.randn(like.shape, generator=generator)
        if name.endswith("conv.weight"):
            x = x * (2 / like[0].numel()) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
            x = 1 + 0.3 * x.abs()
        else:
            x = 0.1 * x
        out[name] = x
    return out


@pytest.fixture(scope="module")
def network(weights) -> InceptionV3:
    net = InceptionV3()
    net.load_state_dict(weights)
    return net.requires_grad_(False)


def pictures(n: int, c: int, h: int, w: int) -> Tensor:
    return torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(5)) * 2 - 1


class Plain:
    """InceptionV3 written out block by block from the paper's figures and the graph's pools."""

    def __init__(self, w: Weights):
        self.w = w

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int | tuple[int, int] = 0) -> Tensor:
        x = F.conv2d(x, self.w[f"{name}.conv.weight"], None, stride, padding)
        mean, var = self.w[f"{name}.bn.running_mean"], self.w[f"{name}.bn.running_var"]
        x = (x - mean[:, None, None]) / (var[:, None, None] + 0.001).sqrt()
        return (
            x * self.w[f"{name}.bn.weight"][:, None, None] + self.w[f"{name}.bn.bias"][:, None, None]
        ).relu()

    def average(self, x: Tensor) -> Tensor:
        """3 x 3 mean over the pixels that exist."""
        ones = torch.ones_like(x[:1, :1])
        total = F.avg_pool2d(x, 3, 1, 1, divisor_override=1)
        return total / F.avg_pool2d(ones, 3, 1, 1, divisor_override=1)

    def a(self, x: Tensor, n: str) -> Tensor:
        one = self.conv(x, f"{n}.branch1x1")
        five = self.conv(self.conv(x, f"{n}.branch5x5_1"), f"{n}.branch5x5_2", padding=2)
        three = self.conv(self.conv(x, f"{n}.branch3x3dbl_1"), f"{n}.branch3x3dbl_2", padding=1)
        three = self.conv(three, f"{n}.branch3x3dbl_3", padding=1)
        return torch.cat([one, five, three, self.conv(self.average(x), f"{n}.branch_pool")], 1)

    def b(self, x: Tensor, n: str) -> Tensor:
        three = self.conv(self.conv(x, f"{n}.branch3x3dbl_1"), f"{n}.branch3x3dbl_2", padding=1)
        three = self.conv(three, f"{n}.branch3x3dbl_3", stride=2)
        return torch.cat([self.conv(x, f"{n}.branch3x3", stride=2), three, F.max_pool2d(x, 3, 2)], 1)

    def c(self, x: Tensor, n: str) -> Tensor:
        wide, tall = (0, 3), (3, 0)
        seven = self.conv(self.conv(x, f"{n}.branch7x7_1"), f"{n}.branch7x7_2", padding=wide)
        seven = self.conv(seven, f"{n}.branch7x7_3", padding=tall)
        double = self.conv(x, f"{n}.branch7x7dbl_1")
        for i, padding in ((2, tall), (3, wide), (4, tall), (5, wide)):
            double = self.conv(double, f"{n}.branch7x7dbl_{i}", padding=padding)
        pool = self.conv(self.average(x), f"{n}.branch_pool")
        return torch.cat([self.conv(x, f"{n}.branch1x1"), seven, double, pool], 1)

    def d(self, x: Tensor, n: str) -> Tensor:
        three = self.conv(self.conv(x, f"{n}.branch3x3_1"), f"{n}.branch3x3_2", stride=2)
        seven = self.conv(self.conv(x, f"{n}.branch7x7x3_1"), f"{n}.branch7x7x3_2", padding=(0, 3))
        seven = self.conv(seven, f"{n}.branch7x7x3_3", padding=(3, 0))
        return torch.cat([three, self.conv(seven, f"{n}.branch7x7x3_4", stride=2), F.max_pool2d(x, 3, 2)], 1)

    def e(self, x: Tensor, n: str, pooled: Tensor) -> Tensor:
        def fork(y: Tensor, name: str) -> list[Tensor]:
            return [self.conv(y, f"{name}a", padding=(0, 1)), self.conv(y, f"{name}b", padding=(1, 0))]

        three = fork(self.conv(x, f"{n}.branch3x3_1"), f"{n}.branch3x3_2")
        double = self.conv(self.conv(x, f"{n}.branch3x3dbl_1"), f"{n}.branch3x3dbl_2", padding=1)
        double = fork(double, f"{n}.branch3x3dbl_3")
        pool = self.conv(pooled, f"{n}.branch_pool")
        return torch.cat([self.conv(x, f"{n}.branch1x1"), *three, *double, pool], 1)

    def whole(self, x: Tensor) -> Tensor:
        x = self.conv(self.conv(x, "Conv2d_1a_3x3", stride=2), "Conv2d_2a_3x3")
        x = F.max_pool2d(self.conv(x, "Conv2d_2b_3x3", padding=1), 3, 2)
        x = F.max_pool2d(self.conv(self.conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3"), 3, 2)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.a(x, name)
        x = self.b(x, "Mixed_6a")
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self.c(x, name)
        x = self.d(x, "Mixed_7a")
        x = self.e(x, "Mixed_7b", self.average(x))
        x = self.e(x, "Mixed_7c", F.max_pool2d(x, 3, 1, 1))
        return x.flatten(2).mean(2)


def test_inception_has_the_size_and_names_of_the_published_file():
    state = InceptionV3().state_dict()
    assert sum(x.numel() for x in state.values()) == 23_885_392
    assert len(state) == 94 * 5 + 2
    assert state["fc.weight"].shape == (1008, 2048)
    assert state["Conv2d_1a_3x3.bn.running_var"].shape == (32,)
    assert state["Mixed_5b.branch5x5_2.conv.weight"].shape == (64, 48, 5, 5)
    assert state["Mixed_6e.branch7x7dbl_5.conv.weight"].shape == (192, 192, 1, 7)
    assert state["Mixed_6a.branch3x3dbl_3.conv.weight"].shape == (96, 96, 3, 3)
    assert state["Mixed_7a.branch7x7x3_4.conv.weight"].shape == (192, 192, 3, 3)
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert state["Mixed_7c.branch_pool.conv.weight"].shape == (192, 2048, 1, 1)


BLOCKS = [
    ("Mixed_5c", 256, lambda p, x, n: p.a(x, n)),
    ("Mixed_6a", 288, lambda p, x, n: p.b(x, n)),
    ("Mixed_6d", 768, lambda p, x, n: p.c(x, n)),
    ("Mixed_7a", 768, lambda p, x, n: p.d(x, n)),
    ("Mixed_7b", 1280, lambda p, x, n: p.e(x, n, p.average(x))),
    ("Mixed_7c", 2048, lambda p, x, n: p.e(x, n, F.max_pool2d(x, 3, 1, 1))),
]


@pytest.mark.parametrize(("name", "channels", "plain"), BLOCKS)
def test_each_kind_of_block_equals_its_transcription(network, weights, name, channels, plain):
    x = torch.randn(2, channels, 7, 9, generator=torch.Generator().manual_seed(1))
    expected = plain(Plain(weights), x, name)
    torch.testing.assert_close(network.get_submodule(name)(x), expected, rtol=1e-4, atol=1e-4)


def test_the_whole_network_equals_its_transcription(network, weights):
    x = pictures(2, 3, 107, 139)
    expected = Plain(weights).whole(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-3)
    assert torch.allclose(network.logits(expected), expected @ weights["fc.weight"].T)


@pytest.mark.parametrize("size", [(5, 7), (64, 48), (299, 299), (310, 402)])
def test_pictures_are_resized_from_the_corner_as_tensorflow_did(size):
    """Output (i, j) lies between the input pixels around (i * h / 299, j * w / 299); 128 levels mean 1."""
    x = pictures(1, 3, *size)
    levels = ((x + 1) * 127.5).round()[0].double()
    ours = prepared(x, "tensorflow")[0]
    h, w = size
    for i, j in [(0, 0), (298, 298), (17, 203), (150, 64)]:
        y, z = i * h / 299, j * w / 299
        y0, z0 = int(y), int(z)
        y1, z1 = min(y0 + 1, h - 1), min(z0 + 1, w - 1)
        top = levels[:, y0, z0] * (1 - z + z0) + levels[:, y0, z1] * (z - z0)
        low = levels[:, y1, z0] * (1 - z + z0) + levels[:, y1, z1] * (z - z0)
        expected = (top * (1 - y + y0) + low * (y - y0) - 128) / 128
        assert torch.allclose(ours[:, i, j].double(), expected, atol=1e-4)


def test_pytorch_fids_resize_and_grey_pictures():
    grey = pictures(2, 1, 9, 13)
    ours = prepared(grey, "pytorch-fid")
    levels = ((grey + 1) * 127.5).round() / 255
    expected = 2 * F.interpolate(levels, (299, 299), mode="bilinear", align_corners=False) - 1
    assert ours.shape == (2, 3, 299, 299)
    assert torch.allclose(ours, expected.expand(-1, 3, -1, -1), atol=1e-6)
    assert not torch.allclose(ours, prepared(grey, "tensorflow"), atol=0.05)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_users_weight_file_is_read(tmp_path, weights, kind):
    path = tmp_path / f"weights.{kind}"
    if kind == "pth":
        torch.save({**weights, "Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(0)}, path)
    else:
        save_file({name: x.half() for name, x in weights.items()}, path)
    space = Inception.open(path)
    x = pictures(2, 3, 20, 31)
    features = space.features(x)
    assert features.shape == (2, 2048)
    assert torch.equal(space.logits(x), features @ space.network.fc.weight.T)
    assert space.name == "inception"


def test_what_is_not_such_a_file_is_refused(tmp_path, weights):
    path = tmp_path / "weights.pth"
    torch.save({k: v for k, v in weights.items() if k != "fc.bias"}, path)
    with pytest.raises(DataError, match=r"1 tensors missing, 0 unknown, 0 of another shape, first 'fc.bias'"):
        load_inception(path)
    torch.save(weights | {"fc.bias": torch.zeros(1000), "AuxLogits.fc.bias": torch.zeros(8)}, path)
    with pytest.raises(DataError, match=r"0 tensors missing, 1 unknown, 1 of another shape, first 'Aux"):
        load_inception(path)
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="holds no state dictionary"):
        load_inception(path)
    torch.save({"a": Plain({})}, path)
    with pytest.raises(DataError, match="nothing else is unpickled"):
        load_inception(path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match="Cannot read Inception weights"):
        load_inception(path)
    with pytest.raises(DataError, match="Cannot read Inception weights"):
        load_inception(tmp_path / "absent.safetensors")


def test_pixels_are_compared_raw_or_averaged_and_say_so():
    x = pictures(3, 3, 32, 64)
    assert Pixels.fitting(1, 28, 28) == Pixels()
    assert torch.equal(Pixels().features(x), x.flatten(1))
    space = Pixels.fitting(3, 32, 64)
    assert space.name == "pixels, averaged to 16 x 16"
    expected = x.reshape(3, 3, 16, 2, 16, 4).mean((3, 5)).flatten(1)
    assert torch.allclose(space.features(x), expected, atol=1e-6)


def test_only_inceptions_distance_is_called_fid():
    class Sums:
        name = "sums"

        def features(self, pixels: Tensor) -> Tensor:
            return pixels.sum((2, 3))

    oracle = Oracle(Sums())
    assert oracle.features(pictures(2, 3, 4, 5)).shape == (2, 3)
    assert frechet_name("inception") == "FID"
    assert kernel_name("inception") == "KID"
    for space in (Pixels(), Pixels(16), oracle):
        assert "FID" not in frechet_name(space.name)
        assert space.name in frechet_name(space.name)
        assert space.name in kernel_name(space.name)
