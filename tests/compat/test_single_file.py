"""Single files: the same model as the folder it was made of, and diffusers' own converters as the judge."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from sfumato.apps.cli import main
from sfumato.apps.load import load
from sfumato.compat import original
from sfumato.compat.clip_text import FORMAT
from sfumato.compat.part import read_weights
from sfumato.compat.single_file import original_tensors, read_single_file
from sfumato.compat.stable_diffusion import StableDiffusionFolder
from sfumato.compat.unet import read_unet_condition
from sfumato.core.request import Edit, Generate, Images
from sfumato.errors import DataError, UsageError
from sfumato.nn.unet import UNet
from sfumato.systems.diffusion.ldm import LDM
from tests.compat.folders import published_one, published_two, published_xl
from tests.compat.test_diffusers import PUBLISHED

MAKERS = {
    "one": published_one,
    "inpainting": lambda folder: published_one(folder, inpaints=True),
    "two": published_two,
    "xl": published_xl,
    "refiner": lambda folder: published_xl(folder, refines=True),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each folder once, and the file its tensors make; the vocabulary lies beside both."""
    top, done = tmp_path_factory.mktemp("single"), {}

    def make(name):
        if name not in done:
            folder = MAKERS[name](top / name / "folder")
            file = top / name / "model.safetensors"
            save_file(original_tensors(StableDiffusionFolder.read(folder)), file)
            done[name] = folder, file
        return done[name]

    return make


@torch.no_grad()
def picture(system):
    """With everything it can be told."""
    request = {"count": 2, "seed": 3, "prompt": "a red circle!", "negative": "stars", "steps": 1}
    photo = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(4)) * 2 - 1
    if Edit in system.can:
        asked = Edit(**request, images=photo, mask=(photo[:, :1] > 0).float(), keep=False)
    else:
        asked = Generate(**request, height=16, width=24)
    *_, last = system.run(asked)
    assert isinstance(last, Images)
    return last.pixels


def shapes(found):
    """All that counts; a level without attention has no depth."""
    levels = [(v.width, v.blocks, v.attend, v.heads, v.attend and v.depth) for v in found.unet.levels]
    return levels, found.vae, found.text, found.scale


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_is_the_folder_it_was_made_of(made, name):
    folder, file = made(name)
    wanted, found = StableDiffusionFolder.read(folder), read_single_file(file)
    for part, weights in wanted.weights.items():
        torch.testing.assert_close(dict(found.weights[part].tensors), dict(weights.tensors), rtol=0, atol=0)
    assert shapes(found) == shapes(wanted)
    assert (found.pipeline, found.settings) == (wanted.pipeline, wanted.settings)
    assert {n: t.encode(["a red!"]).tokens.tolist() for n, t in found.tokenizers.items()} == {
        n: t.encode(["a red!"]).tokens.tolist() for n, t in wanted.tokenizers.items()
    }
    if name == "xl":
        a, b = picture(LDM.from_diffusers(folder).eval()), picture(load(file, precision="fp32", device="cpu"))
        assert (a - b).abs().max() <= 2 / 255
        assert (a[0] - a[1]).abs().max() > 0.1


@pytest.mark.parametrize("name", ["one", "xl"])
def test_diffusers_converts_our_files(made, name):
    folder, file = made(name)
    given = load_file(file)
    config = dict(UNet2DConditionModel.load_config(folder / "unet"))
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").state_dict()
    torch.testing.assert_close(convert_ldm_unet_checkpoint(dict(given), config), unet, rtol=0, atol=0)
    stage = AutoencoderKL.from_pretrained(folder / "vae")
    converted = convert_ldm_vae_checkpoint(dict(given), dict(stage.config))
    torch.testing.assert_close(converted, stage.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "part"), [("two", ""), ("xl", "_2"), ("refiner", "_2")])
def test_diffusers_converts_our_open_clip(made, name, part):
    folder, file = made(name)
    config = CLIPTextConfig.from_pretrained(folder / f"text_encoder{part}")
    prefix = {"two": "cond_stage_model.model.", "xl": "conditioner.embedders.1.model."}
    prefix = prefix.get(name, "conditioner.embedders.0.model.")
    given = load_file(file)
    if name == "two":  # diffusers wants a projection, and drops the last layer by number alone
        given |= {f"{prefix}text_projection": torch.zeros(128, 128)}
    found = convert_open_clip_checkpoint(CLIPTextModelWithProjection(config), given, prefix)
    wanted = read_weights(folder / f"text_encoder{part}", FORMAT).tensors
    same = {n.removeprefix("text_model."): t for n, t in found.items() if "position_ids" not in n}
    assert {n.removeprefix("text_model.") for n in wanted} <= same.keys()
    for key, tensor in wanted.items():
        torch.testing.assert_close(same[key.removeprefix("text_model.")], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["1.5", "XL", "upscaler"])
def test_published_names_go_there_and_back(name):
    """Without memory: all 686 tensors of Stable Diffusion's U-Net, 1680 of SDXL's."""
    shape = read_unet_condition(PUBLISHED[name], "unet")
    with torch.device("meta"):
        mine = UNet(shape).state_dict()
        theirs = original.theirs(original.unet_table(shape), mine, "model.diffusion_model.")
    assert len(theirs) == len(mine)
    config = {"layers_per_block": 2, "block_out_channels": shape.widths, "class_embed_type": None}
    config |= {"addition_embed_type": None, "num_class_embeds": None} | PUBLISHED[name]
    converted = convert_ldm_unet_checkpoint(dict(theirs), config)
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in mine.items()}
    again = original.ours(original.unet_table(shape), theirs, "model.diffusion_model.")
    assert {k: v.shape for k, v in again.items()} == {k: v.shape for k, v in mine.items()}


def test_what_a_second_generation_has_and_nobody_reads(made, tmp_path):
    """The last layer of the text tower, its projection, and the autoencoder's loss."""
    folder, file = made("two")
    given = load_file(file)
    inner, layer = "cond_stage_model.model.", "resblocks.1."
    last = {n.replace(layer, "resblocks.2."): t.clone() for n, t in given.items() if layer in n}
    more = {f"{inner}text_projection": torch.ones(3), "first_stage_model.loss.x": torch.ones(3)}
    more |= {f"{inner}logit_scale": torch.ones(()), "model_ema.decay": torch.ones(())}
    save_file(given | last | more, tmp_path / "more.safetensors")
    found = read_single_file(tmp_path / "more.safetensors", words=folder / "tokenizer")
    wanted = StableDiffusionFolder.read(folder)
    torch.testing.assert_close(
        dict(found.weights["text_encoder"].tensors), dict(wanted.weights["text_encoder"].tensors)
    )
    assert "does not say whether it predicts eps or v; v is assumed" in found.notes[0]
    assert found.scheduler.predicts == "v"
    said = read_single_file(tmp_path / "more.safetensors", "eps", folder / "tokenizer")
    assert (said.scheduler.predicts, said.notes, said.height) == ("eps", (), 128)


# --- the command line --------------------------------------------------------------------------------


def run(*args) -> int:
    return main([str(arg) for arg in args])


def test_converting_a_checkpoint_of_training(made, tmp_path, capsys):
    folder, file = made("one")
    held = {"state_dict": load_file(file), "global_step": 7, "epoch": 1}
    torch.save(held, tmp_path / "model.ckpt")
    assert run("convert", tmp_path / "model.ckpt", tmp_path / "new") == 2
    assert "is a pickle, which can run code" in capsys.readouterr().err
    words = ("--tokenizer", folder / "tokenizer")
    assert run("convert", tmp_path / "model.ckpt", tmp_path / "new", "--trust", *words) == 0
    new, old = LDM.from_diffusers(tmp_path / "new"), LDM.from_diffusers(folder)
    torch.testing.assert_close(new.state_dict(), old.state_dict())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ckpt", "new"]
    assert run("convert", tmp_path / "model.ckpt", tmp_path / "new", "--trust") == 2
    assert "is not empty; convert into a new folder" in capsys.readouterr().err


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_code_runs_none(made, tmp_path, capsys):
    trap = {"state_dict": {"a": torch.ones(1)}, "trap": Trap(tmp_path / "sprung")}
    torch.save(trap, tmp_path / "trap.ckpt")
    words = ("--tokenizer", made("one")[0] / "tokenizer")
    assert run("convert", tmp_path / "trap.ckpt", tmp_path / "new", "--trust", *words) == 65
    assert "holds more than tensors and would run code" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["trap.ckpt"]


def test_exporting_a_single_file(made, tmp_path):
    folder, file = made("refiner")
    assert run("export", folder, tmp_path / "new" / "xl.safetensors") == 0
    torch.testing.assert_close(
        load_file(tmp_path / "new" / "xl.safetensors"), load_file(file), rtol=0, atol=0
    )


def test_what_is_missing_is_told(made, tmp_path):
    folder, file = made("one")
    given, words = load_file(file), folder / "tokenizer"

    def changed(**changes):
        tensors = {n: t for n, t in (given | changes).items() if t is not None}
        save_file(tensors, tmp_path / "changed.safetensors")
        return LDM.from_parts(read_single_file(tmp_path / "changed.safetensors", words=words))

    with pytest.raises(DataError, match=r"1 missing \(conv_in.bias\)"):
        changed(**{"model.diffusion_model.input_blocks.0.0.bias": None})
    with pytest.raises(DataError, match=r"1 unknown \(surprise\)"):
        changed(**{"model.diffusion_model.surprise": torch.ones(1)})
    with pytest.raises(DataError, match=r"has no tensor 'model\.diffusion_model\.out\.2\.weight'; fetch"):
        changed(**{"model.diffusion_model.out.2.weight": None})
    changed()
    with pytest.raises(DataError, match="holds no vocabulary, and there is none beside it"):
        read_single_file(tmp_path / "changed.safetensors")
    with pytest.raises(UsageError, match="predicts eps or v here, got 'x0'"):
        read_single_file(file, "x0")
    none = {n: t for n, t in given.items() if not n.startswith("cond_stage_model")}
    save_file(none, tmp_path / "changed.safetensors")
    with pytest.raises(DataError, match="holds no text encoder of Stable Diffusion 1, 2 or XL"):
        read_single_file(tmp_path / "changed.safetensors")
    save_file(given, tmp_path / "other.safetensors")
    save_file(given, tmp_path / "changed.safetensors")
    with pytest.raises(DataError, match=r"holds several models \(changed.safetensors, other.safetensors\)"):
        load(tmp_path)
