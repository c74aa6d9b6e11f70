"""Public readers' files: made up with their names and shapes, they open and answer as they should."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato.apps.load import load
from sfumato.compat.attentionhtr import CHARACTERS, published, read_reader
from sfumato.core.request import Read, Text
from sfumato.errors import DataError
from sfumato.nn.tps import TPSConfig, centres, resting, spline
from sfumato.nn.word_reader import Reader, ReaderConfig
from sfumato.nn.word_resnet import WordResNetConfig
from sfumato.systems.reading.htr import AttentionHTR

SMALL = ReaderConfig(
    tps=TPSConfig(points=8, width=2, hidden=6), resnet=WordResNetConfig(16, (1, 2, 1, 1)), hidden=5
)
NAMES = [
    "Transformation.LocalizationNetwork.conv.0.weight",
    "Transformation.LocalizationNetwork.conv.13.running_var",
    "Transformation.LocalizationNetwork.localization_fc1.0.weight",
    "Transformation.LocalizationNetwork.localization_fc2.bias",
    "FeatureExtraction.ConvNet.conv0_1.weight",
    "FeatureExtraction.ConvNet.bn0_2.num_batches_tracked",
    "FeatureExtraction.ConvNet.layer1.0.downsample.0.weight",
    "FeatureExtraction.ConvNet.layer2.0.downsample.1.bias",
    "FeatureExtraction.ConvNet.layer3.4.conv2.weight",
    "FeatureExtraction.ConvNet.layer4.2.bn1.weight",
    "FeatureExtraction.ConvNet.conv4_2.weight",
    "FeatureExtraction.ConvNet.bn4_2.running_mean",
    "SequenceModeling.0.rnn.weight_ih_l0",
    "SequenceModeling.1.rnn.bias_hh_l0_reverse",
    "SequenceModeling.1.linear.weight",
    "Prediction.attention_cell.i2h.weight",
    "Prediction.attention_cell.h2h.bias",
    "Prediction.attention_cell.score.weight",
    "Prediction.attention_cell.rnn.weight_ih",
    "Prediction.generator.bias",
]
"""Some names of TPS-ResNet-BiLSTM-Attn.pth, from every part."""


def file(folder: Path, config: ReaderConfig = SMALL, classes: int = 38, name: str = "reader.pth") -> Path:
    """A file as DataParallel saves it, with the spline's constants among the tensors."""
    torch.manual_seed(2)
    network = Reader(config, classes)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.01, 0.2)
    tensors = published(network.state_dict())
    if config.transformation == "tps":
        points, places = config.tps.points, config.height * config.width
        spline_at = "module.Transformation.GridGenerator."
        tensors[f"{spline_at}inv_delta_C"] = torch.zeros(points + 3, points + 3)
        tensors[f"{spline_at}P_hat"] = torch.zeros(places, points + 3)
    torch.save(tensors, folder / name)
    return folder / name


def answer(system: AttentionHTR, x: Tensor) -> Text:
    *_, result = system.run(Read(images=x, count=len(x)))
    assert isinstance(result, Text)
    return result


def test_our_names_become_the_public_ones():
    with torch.device("meta"):
        tensors = published(Reader(ReaderConfig(), 38).state_dict())
    assert {f"module.{name}" for name in NAMES} <= tensors.keys()
    assert all(name.startswith("module.") for name in tensors)
    shapes = {
        "Transformation.LocalizationNetwork.localization_fc2.weight": (40, 256),
        "FeatureExtraction.ConvNet.conv0_1.weight": (32, 1, 3, 3),
        "FeatureExtraction.ConvNet.conv4_1.weight": (512, 512, 2, 2),
        "SequenceModeling.0.rnn.weight_ih_l0": (1024, 512),
        "Prediction.attention_cell.rnn.weight_ih": (1024, 294),
        "Prediction.generator.weight": (38, 256),
    }
    assert {name: tuple(tensors[f"module.{name}"].shape) for name in shapes} == shapes


@pytest.mark.parametrize(
    ("settings", "classes", "characters"),
    [
        ({}, 38, string.digits + string.ascii_lowercase),
        ({}, 96, string.printable[:94]),
        ({"head": "ctc"}, 37, string.digits + string.ascii_lowercase),
        ({"transformation": "none"}, 38, string.digits + string.ascii_lowercase),
    ],
)
def test_a_public_file_opens_by_its_path(tmp_path, settings, classes, characters):
    config = ReaderConfig(**{**vars(SMALL), **settings})
    path = file(tmp_path, config, classes)
    system = load(path, precision="fp32", device="cpu")
    assert isinstance(system, AttentionHTR)
    assert system.letters.characters == characters
    tensors = torch.load(path, weights_only=True)
    for name, tensor in published(system.network.state_dict()).items():
        assert torch.equal(tensor, tensors[name]), name
    x = torch.rand(2, 1, 40, 90) * 2 - 1
    result = answer(system, x)
    twin = AttentionHTR(system.config).eval()
    twin.load_state_dict(system.state_dict())
    assert result == answer(twin, x)
    assert len(result.texts) == len(result.confidence) == 2
    assert len(CHARACTERS) == 2


def test_of_a_folder_with_one_file_that_is_taken(tmp_path):
    found = read_reader(file(tmp_path).parent)
    assert found.config.tps == TPSConfig(points=8, width=2, hidden=6, upright=False, align_corners=True)
    assert found.config.resnet.blocks == (1, 2, 1, 1)
    assert (found.config.height, found.config.width) == (32, 100)
    file(tmp_path, name="other.pth")
    with pytest.raises(DataError, match="holds 2 weight files; give the one of the reader"):
        read_reader(tmp_path)


def test_the_splines_constants_are_what_we_compute():
    """``P_hat @ inv_delta_C`` of the public code, written down from its definition, is our map."""
    count, height, width = 8, 6, 10
    c, p = resting(count), centres(height, width)
    r = torch.cdist(c, c).fill_diagonal_(1.0)
    hat = r.square() * r.log()
    delta = torch.zeros(count + 3, count + 3).double()
    delta[:count, 0], delta[:count, 1:3], delta[:count, 3:] = 1, c, hat
    delta[count : count + 2, 3:], delta[count + 2, 3:] = c.T, 1
    d = torch.cdist(p, c)
    p_hat = torch.cat([torch.ones(len(p), 1).double(), p, d.square() * (d + 1e-6).log()], 1)
    theirs = (p_hat @ delta.inverse())[:, :count]
    assert torch.allclose(spline(c, p), theirs, atol=1e-4)


def test_what_is_no_reader_is_refused(tmp_path):
    torch.save({"module.conv.weight": torch.ones(2, 2)}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"holds no residual reader: it has no 'FeatureExtraction\.ConvNet"):
        read_reader(tmp_path / "x.pth")
    path = file(tmp_path, classes=50)
    with pytest.raises(
        DataError, match="reads 48 letters, and which they are it does not say; known are sets of 36"
    ):
        read_reader(path)
    for odd, match in (
        ("FeatureExtraction.ConvNet.conv4_2.weight", "residual network and two LSTMs"),
        ("Prediction.generator.weight", "'prediction.generator.weight' is in only one of the two"),
    ):
        tensors = torch.load(file(tmp_path), weights_only=True)
        del tensors[f"module.{odd}"]
        torch.save(tensors, path)
        with pytest.raises(DataError, match=match):
            read_reader(path)
    tensors = torch.load(file(tmp_path), weights_only=True)
    tensors["module.FeatureExtraction.ConvNet.bn1.weight"] = torch.ones(5)
    torch.save(tensors, path)
    with pytest.raises(DataError, match=r"features\.bn1\.weight is \(5,\), not \(4,\)"):
        read_reader(path)
