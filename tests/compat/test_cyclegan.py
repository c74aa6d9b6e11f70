"""Generators as pytorch-CycleGAN-and-pix2pix saves them, opened by name and judged tensor by tensor."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import sfumato
from sfumato.compat.cyclegan import read_resnet, read_unet
from sfumato.compat.pth import read_pth
from sfumato.core.request import Translate
from sfumato.errors import DataError, UsageError
from sfumato.nn.resnet_translator import ResnetTranslator, ResnetTranslatorConfig
from sfumato.nn.unet_p2p import TranslatorUNet, TranslatorUNetConfig

UNET = TranslatorUNetConfig(width=4, levels=6)
RESNET = ResnetTranslatorConfig(width=4, blocks=3)


def saved(network: nn.Module, path: Path, *, running: bool = True, prefix: str = "") -> dict[str, Tensor]:
    """The file the authors' code writes: an ordered state dict with running statistics of every norm."""
    tensors = OrderedDict(network.state_dict())
    for name, part in network.named_modules():
        if running and isinstance(part, nn.GroupNorm):
            tensors[f"{name}.running_mean"] = torch.full((part.num_channels,), 9.0)
            tensors[f"{name}.running_var"] = torch.full((part.num_channels,), 99.0)
            tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)
    torch.save(OrderedDict((prefix + name, t) for name, t in tensors.items()), path)
    return tensors


def names_of(kind: str) -> list[str]:
    """Names in the authors' code, written down from its ``networks.py``: U-Net of 5 levels, ResNet of 2."""
    if kind == "resnet":
        blocks = [f"{i}.conv_block.{j}" for i in (10, 11) for j in (1, 5)]
        return [
            f"model.{i}.{t}" for i in ("1", "4", "7", *blocks, "12", "15", "19") for t in ("weight", "bias")
        ]
    names, here = ["model.model.0.weight", "model.model.3.weight", "model.model.3.bias"], "model.model.1"
    for _ in range(3):
        names += [f"{here}.model.{i}" for i in ("1.weight", "5.weight")]
        names += [f"{here}.model.{i}.{t}" for i in (2, 6) for t in ("weight", "bias")]
        here += ".model.3"
    inner = ("1.weight", "3.weight", "4.weight", "4.bias")
    return names + [f"{here}.model.{i}" for i in inner]


def test_names_are_the_published_ones():
    unet = TranslatorUNet(TranslatorUNetConfig(width=2, levels=5))
    assert sorted(unet.state_dict()) == sorted(names_of("unet"))
    resnet = ResnetTranslator(ResnetTranslatorConfig(width=2, blocks=2))
    assert sorted(resnet.state_dict()) == sorted(names_of("resnet"))


@pytest.mark.parametrize("affine", [True, False])
def test_shapes_are_read_off_the_tensors(tmp_path, affine):
    config = TranslatorUNetConfig(channels_in=1, channels_out=2, width=3, levels=5, affine=affine)
    written = saved(TranslatorUNet(config), tmp_path / "g.pth", prefix="module.")
    found = read_unet(tmp_path / "g.pth")
    assert found.config == config
    assert found.tensors.keys() == {n for n in written if "running" not in n and "tracked" not in n}
    shape = ResnetTranslatorConfig(channels_in=1, channels_out=2, width=3, blocks=4, affine=affine)
    saved(ResnetTranslator(shape), tmp_path / "r.pth")
    assert read_resnet(tmp_path / "r.pth").config == shape


def answer(system, x, direction=""):
    *_, last = system.run(Translate(images=x, count=len(x), direction=direction))
    return last.pixels


def test_a_file_of_pix2pix_opens_and_answers(tmp_path):
    network, x = TranslatorUNet(UNET).eval(), torch.rand(2, 3, 64, 128) * 2 - 1
    saved(network, tmp_path / "latest_net_G.pth")
    for given in (tmp_path / "latest_net_G.pth", tmp_path):
        system = sfumato.load(given, precision="fp32", device="cpu")
        assert type(system).__name__ == "Pix2Pix"
        assert (answer(system, x) - network(x)).abs().max() < 1e-5


def test_files_of_cyclegan_open_one_way_and_both(tmp_path):
    there, back = ResnetTranslator(RESNET), ResnetTranslator(RESNET)
    x = torch.rand(1, 3, 20, 28) * 2 - 1
    saved(there, tmp_path / "latest_net_G_A.pth")
    saved(back, tmp_path / "latest_net_G_B.pth")
    one = sfumato.load(tmp_path / "latest_net_G_A.pth", precision="fp32", device="cpu")
    assert one.directions == ("a-to-b",)
    assert not one.players()
    assert (answer(one, x) - there(x)).abs().max() < 1e-5
    with pytest.raises(UsageError, match="Unknown direction 'b-to-a'"):
        answer(one, x, "b-to-a")
    both = sfumato.load(tmp_path, precision="fp32", device="cpu")
    assert both.directions == ("a-to-b", "b-to-a")
    assert (answer(both, x, "b-to-a") - back(x)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.7.weight"), r"1 missing \(model.7.weight\)"),
        (lambda t: t.update(extra=torch.ones(1)), r"1 unknown \(extra\)"),
        (
            lambda t: t.update({"model.4.bias": torch.ones(5)}),
            r"1 misshapen \(model.4.bias is \(5,\) instead of \(8,\)\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    tensors = dict(ResnetTranslator(RESNET).state_dict())
    change(tensors)
    torch.save(tensors, tmp_path / "g.pth")
    with pytest.raises(DataError, match=message):
        read_resnet(tmp_path / "g.pth")


def test_files_of_another_kind_are_refused(tmp_path):
    file = tmp_path / "g.pth"
    saved(ResnetTranslator(RESNET), file)
    with pytest.raises(DataError, match=r"holds no U-Net of pix2pix: it has no .model\.model\.0\.weight."):
        read_unet(file)
    saved(TranslatorUNet(UNET), file)
    with pytest.raises(DataError, match=r"holds no generator of CycleGAN: it has no .model\.10"):
        read_resnet(file)
    torch.save({"weight": torch.ones(2)}, file)
    with pytest.raises(DataError, match=r"No system knows the tensors in '.*'; those with public files are"):
        sfumato.load(file)
    (tmp_path / "latest_net_G.pth").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"is no weight file of PyTorch|is damaged"):
        sfumato.load(tmp_path / "latest_net_G.pth")


def test_generators_that_differ_or_change_channels_are_refused(tmp_path):
    saved(ResnetTranslator(RESNET), tmp_path / "latest_net_G_A.pth")
    saved(ResnetTranslator(ResnetTranslatorConfig(width=4, blocks=1)), tmp_path / "latest_net_G_B.pth")
    with pytest.raises(DataError, match="differ in shape"):
        sfumato.load(tmp_path)
    grey = TranslatorUNetConfig(channels_in=1, channels_out=2, width=4, levels=5)
    saved(TranslatorUNet(grey), tmp_path / "colours.pth")
    with pytest.raises(DataError, match="turns 1 channels into 2"):
        sfumato.load(tmp_path / "colours.pth")
    (tmp_path / "latest_net_G_B.pth").unlink()
    with pytest.raises(DataError, match=r"holds neither latest_net_G\.pth nor latest_net_G_A\.pth and"):
        sfumato.load(tmp_path)


class Code:
    """What a malicious file might hold."""

    def __reduce__(self):
        return print, ("run",)


def test_no_code_is_run(tmp_path, capsys):
    torch.save({"a": torch.ones(1), "b": Code()}, tmp_path / "bad.pth")
    with pytest.raises(DataError, match="would run code when it is read; fetch it again, or save its"):
        read_pth(tmp_path / "bad.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Code()))
    with pytest.raises(DataError, match="fetch it again"):
        read_pth(tmp_path / "old.pth")
    torch.save({"step": 3}, tmp_path / "empty.pth")
    with pytest.raises(DataError, match="holds no tensors"):
        read_pth(tmp_path / "empty.pth")
    assert "run" not in capsys.readouterr().out
    torch.save({"g": {"x": torch.ones(2)}, "y": torch.zeros(1), "n": 3}, tmp_path / "deep.pth")
    assert read_pth(tmp_path / "deep.pth").keys() == {"g/x", "y"}
