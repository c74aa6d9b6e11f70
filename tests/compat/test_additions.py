"""LoRA files in four dialects, and words of textual inversion: the pictures that diffusers makes of them."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from safetensors.torch import save_file

from sfumato.compat.embedding import read_embedding
from sfumato.compat.lora import read_lora
from sfumato.compat.original import unet_table
from sfumato.core.additions import Additions
from sfumato.core.request import Generate
from sfumato.errors import DataError, UsageError
from sfumato.systems.diffusion.ddpm import DDPM
from sfumato.systems.diffusion.ldm import LDM
from tests.compat.folders import sdxl, stable_diffusion
from tests.compat.test_parity import TOLERANCE, apart, opened, picture, theirs

OURS = {"prompt": "a red circle", "height": 40, "width": 56, "steps": 2, "guidance": 3.0, "solver": "ddim"}
RANK = 2


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return stable_diffusion(tmp_path_factory.mktemp("one") / "model", 1)


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    return sdxl(tmp_path_factory.mktemp("xl") / "model")


def linear(network, names):
    """Modules of these last names, and the shapes of their weights."""
    found = dict(network.named_modules())
    return {n: m.weight.shape for n, m in found.items() if n.endswith(names) and n != "to_out"}


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
MORE = (*ATTENTION, "proj_in", "ff.net.0.proj", "conv1")


def updates(network, names, seed=3):
    """Random halves for each module, of the shapes that trainers give them."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in linear(network, names).items():
        tail = (1, 1) if len(shape) == 4 else ()
        down = torch.randn(RANK, *shape[1:], generator=generator) * 0.4
        up = torch.randn(shape[0], RANK, *tail, generator=generator) * 0.4
        made[name] = down, up
    return made


def merged(pipe, part, made, scale):
    """The same network with the updates written into its weights, by the book."""
    modules = dict(getattr(pipe, part).named_modules())
    with torch.no_grad():
        for name, (down, up) in made.items():
            weight = modules[name].weight
            weight += scale * (up.flatten(1) @ down.flatten(1)).view(weight.shape)


def named(made, pattern, down, up):
    tensors = {}
    for name, (a, b) in made.items():
        tensors[pattern.format(name, flat=name.replace(".", "_")) + down] = a.contiguous()
        tensors[pattern.format(name, flat=name.replace(".", "_")) + up] = b.contiguous()
    return tensors


def tower_name(name):
    """As files call a module of a text tower, whatever transformers calls it today."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def named_alike(network):
    """Tensors by names that do not depend on whether a tower is called one."""
    return {name.removeprefix("text_model."): t.detach() for name, t in network.state_dict().items()}


def against(folder, kind, file, apply, weight=1.0):
    """The system with a file, whose weights must be those that diffusers' networks have after ``apply``."""
    pipe, system = opened(folder, kind), LDM.from_diffusers(folder)
    plain = {part: named_alike(module) for part, module in system.parts().items()}
    apply(pipe)
    system.take(Additions(loras=((file, weight),)))
    mine = {part: named_alike(module) for part, module in system.parts().items()}
    for part, tensors in mine.items():
        torch.testing.assert_close(tensors, named_alike(getattr(pipe, part)), rtol=1e-5, atol=1e-5)
    changed = [p for p, old in plain.items() if any((old[n] != t).any() for n, t in mine[p].items())]
    return pipe, system, changed


def ours_of(pipe):
    """The same request in diffusers' words."""
    from diffusers import DDIMScheduler

    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    return theirs(
        pipe,
        prompt=[OURS["prompt"]] * 2,
        height=40,
        width=56,
        num_inference_steps=2,
        guidance_scale=3.0,
    )


def test_peft(one, tmp_path):
    """Rank and alpha stand in the file's metadata."""
    pipe = opened(one)
    made, tower = updates(pipe.unet, MORE), updates(pipe.text_encoder, ("q_proj", "fc1"))
    tensors = named(made, "unet.{}", ".lora_A.weight", ".lora_B.weight")
    said = {tower_name(name): halves for name, halves in tower.items()}
    tensors |= named(said, "text_encoder.{}", ".lora_A.weight", ".lora_B.weight")
    settings = {"unet.lora_alpha": 1, "unet.r": 2, "text_encoder.lora_alpha": 3, "text_encoder.r": 2}
    file = tmp_path / "peft.safetensors"
    save_file(tensors, file, {"format": "pt", "lora_adapter_metadata": json.dumps(settings)})

    def apply(pipe):
        merged(pipe, "unet", made, 0.5 * 0.8)
        merged(pipe, "text_encoder", tower, 1.5 * 0.8)

    *_, changed = against(one, StableDiffusionPipeline, file, apply, 0.8)
    assert changed == ["unet", "text_encoder"]


def test_diffusers(one, tmp_path):
    """Without alpha the rank counts as alpha."""
    pipe = opened(one)
    made, tower = updates(pipe.unet, ATTENTION), updates(pipe.text_encoder, ("v_proj",))
    tensors = named(made, "unet.{}", ".lora.down.weight", ".lora.up.weight")
    said = {tower_name(name): halves for name, halves in tower.items()}
    old = (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")
    tensors |= named(said, "text_encoder.{}", *old)
    save_file(tensors, tmp_path / "old.safetensors")

    def apply(pipe):
        merged(pipe, "unet", made, -0.5)
        merged(pipe, "text_encoder", tower, -0.5)

    pipe, system, changed = against(one, StableDiffusionPipeline, tmp_path / "old.safetensors", apply, -0.5)
    assert changed == ["unet", "text_encoder"]
    answer = picture(system, **OURS)
    assert apart(answer, ours_of(pipe)) <= TOLERANCE
    assert apart(answer, picture(LDM.from_diffusers(one), **OURS)) > 5 * TOLERANCE


def test_attention_processors(one, tmp_path):
    made = updates(opened(one).unet, ATTENTION)
    tensors = {}
    for name, (down, up) in made.items():
        block, leaf = name.removesuffix(".0").rsplit(".", 1)
        tensors[f"{block}.processor.{leaf}_lora.down.weight"] = down
        tensors[f"{block}.processor.{leaf}_lora.up.weight"] = up
    torch.save(tensors, tmp_path / "pytorch_lora_weights.bin")
    file = (tmp_path / "pytorch_lora_weights.bin").rename(tmp_path / "lora.pt")
    merge = partial(merged, part="unet", made=made, scale=1.0)
    *_, changed = against(one, StableDiffusionPipeline, file, merge)
    assert changed == ["unet"]


def test_kohya(one, tmp_path):
    pipe = opened(one)
    made, tower = updates(pipe.unet, MORE), updates(pipe.text_encoder, ("out_proj", "fc2"))
    tensors = named(made, "lora_unet_{flat}", ".lora_down.weight", ".lora_up.weight")
    said = {tower_name(name): halves for name, halves in tower.items()}
    tensors |= named(said, "lora_te_{flat}", ".lora_down.weight", ".lora_up.weight")
    modules = {name.rpartition(".lora_")[0] for name in tensors}
    tensors |= {f"{name}.alpha": torch.tensor(0.5) for name in modules}
    save_file(tensors, tmp_path / "kohya.safetensors")
    converted, alphas = _convert_non_diffusers_lora_to_diffusers(dict(tensors))
    assert len(converted) == 2 * len(modules)
    assert set(alphas.values()) == {0.5}

    def apply(pipe):
        merged(pipe, "unet", made, 0.25)
        merged(pipe, "text_encoder", tower, 0.25)

    *_, changed = against(one, StableDiffusionPipeline, tmp_path / "kohya.safetensors", apply)
    assert changed == ["unet", "text_encoder"]


def test_kohya_for_sdxl(xl, tmp_path):
    """The U-Net's modules have the names of single files, the towers a number."""
    pipe = opened(xl, StableDiffusionXLPipeline)
    made = updates(pipe.unet, ATTENTION)
    one = updates(pipe.text_encoder, ("q_proj",), 4)
    two = updates(pipe.text_encoder_2, ("q_proj", "fc1"), 5)
    table = unet_table(LDM.from_diffusers(xl).config.network)
    there = {e.ours[0].removesuffix(".weight"): e.theirs.removesuffix(".weight") for e in table}
    down_up = (".lora_down.weight", ".lora_up.weight")
    tensors = named({there[name]: halves for name, halves in made.items()}, "lora_unet_{flat}", *down_up)
    assert any("input_blocks_3" in name or "input_blocks_4" in name for name in tensors)
    tensors |= named({tower_name(n): h for n, h in one.items()}, "lora_te1_{flat}", *down_up)
    tensors |= named({tower_name(n): h for n, h in two.items()}, "lora_te2_{flat}", *down_up)
    save_file(tensors, tmp_path / "xl.safetensors")
    mapped = _maybe_map_sgm_blocks_to_diffusers(dict(tensors), pipe.unet.config)
    converted, _ = _convert_non_diffusers_lora_to_diffusers(mapped)
    legacy = r"unet\.(.+)\.processor\.(to_[qkv]|to_out)_lora\.down\.weight"
    found = [re.fullmatch(legacy, name) for name in converted]
    leaves = {"to_out": "to_out.0"}
    assert {f"{m[1]}.{leaves.get(m[2], m[2])}" for m in found if m} == made.keys()

    def apply(pipe):
        merged(pipe, "unet", made, 1.0)
        merged(pipe, "text_encoder", one, 1.0)
        merged(pipe, "text_encoder_2", two, 1.0)

    *_, changed = against(xl, StableDiffusionXLPipeline, tmp_path / "xl.safetensors", apply)
    assert changed == ["unet", "text_encoder", "text_encoder_2"]


def test_two_files_add_up_and_nothing_is_written(one, tmp_path):
    made = updates(opened(one).unet, ("to_k",))
    for name in ("a", "b"):
        tensors = named(made, "unet.{}", ".lora_A.weight", ".lora_B.weight")
        save_file(tensors, tmp_path / f"{name}.safetensors")
    both, single, plain = (LDM.from_diffusers(one) for _ in range(3))
    both.take(Additions(loras=((tmp_path / "a.safetensors", 1.5), (tmp_path / "b.safetensors", -0.5))))
    single.take(Additions(loras=((tmp_path / "a.safetensors", 1.0),)))
    torch.testing.assert_close(both.state_dict(), single.state_dict(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(LDM.from_diffusers(one).state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_what_is_no_lora_for_this_model_is_refused(one, xl, tmp_path):
    file = tmp_path / "lora.safetensors"
    made = updates(opened(one).unet, ("to_k",))
    good = named(made, "unet.{}", ".lora_A.weight", ".lora_B.weight")

    system, other = LDM.from_diffusers(one), LDM.from_diffusers(xl)

    def take(tensors, system=system):
        save_file(tensors, file)
        system.take(Additions(loras=((file, 1.0),)))

    with pytest.raises(DataError, match="made for another model"):
        take(good, other)
    name = next(n.removesuffix(".lora_A.weight") for n in good if n.endswith("attn2.to_k.lora_A.weight"))
    with pytest.raises(DataError, match=r"changes 'unet.*to_k' by a matrix of \(12, 5\), but there it has"):
        take({f"{name}.lora_A.weight": torch.ones(2, 5), f"{name}.lora_B.weight": torch.ones(12, 2)})
    with pytest.raises(DataError, match="has but one half of"):
        take({name: t for name, t in good.items() if "lora_A" in name})
    with pytest.raises(DataError, match=r"has a tensor 'unet\.x\.hada_w1_a'; only plain LoRA of linear"):
        take(good | {"unet.x.hada_w1_a": torch.ones(1)})
    with pytest.raises(DataError, match="holds no LoRA; only plain LoRA"):
        take({"a.alpha": torch.ones(())})
    file.write_bytes(b"no")
    with pytest.raises(DataError, match="is damaged or incomplete"):
        read_lora(file)
    with torch.device("meta"), pytest.raises(UsageError, match="DDPM takes no LoRA, no textual inversion"):
        DDPM(DDPM.presets["digits"].config).take(Additions(tile=True))


# --- words -------------------------------------------------------------------------------------------


def vectors(count, width, seed=1):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 2


FILES = {
    "diffusers": ("word.safetensors", {"<thing>": vectors(1, 24)[0]}, "<thing>"),
    "several": ("word.safetensors", {"<thing>": vectors(3, 24)}, "<thing>"),
    "nameless": ("thing.safetensors", {"emb_params": vectors(2, 24)}, "thing"),
    "webui": ("thing.pt", {"string_to_param": {"*": vectors(2, 24)}, "name": "thing", "step": 9}, "thing"),
}


@pytest.mark.parametrize("name", FILES)
def test_words(one, tmp_path, name):
    file, held, word = FILES[name]
    (torch.save if file.endswith(".pt") else save_file)(held, tmp_path / file)
    pipe, system = opened(one), LDM.from_diffusers(one)
    given = {word: next(iter(held.values()))} if name == "nameless" else held
    pipe.load_textual_inversion(given, token=word if name == "webui" else None)
    system.take(Additions(embeddings=((tmp_path / file, ""),)))
    prompt = f"a red {word}"
    with torch.no_grad():
        want = pipe.encode_prompt(prompt, "cpu", 1, False)[0]
        told = system.reader.hear(Generate(prompt=prompt, count=1), (40, 56)).conds[0].tokens
        plain = (
            LDM.from_diffusers(one).reader.hear(Generate(prompt=prompt, count=1), (40, 56)).conds[0].tokens
        )
    torch.testing.assert_close(told, want, rtol=1e-4, atol=1e-4)
    assert (told - plain).abs().max() > 0.5
    if name == "several":
        size = {"height": 40, "width": 56}
        want = theirs(pipe, prompt=[prompt] * 2, **size, num_inference_steps=2, guidance_scale=3.0)
        request = OURS | {"prompt": prompt, "solver": "plms"}
        assert apart(picture(system, **request), want) <= TOLERANCE
        assert apart(picture(LDM.from_diffusers(one), **request), want) > 5 * TOLERANCE


def test_words_of_sdxl(xl, tmp_path):
    held = {"clip_l": vectors(2, 24), "clip_g": vectors(2, 32)}
    save_file(held, tmp_path / "thing.safetensors")
    pipe, system = opened(xl, StableDiffusionXLPipeline), LDM.from_diffusers(xl)
    pipe.load_textual_inversion(
        {"thing": held["clip_l"]}, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer
    )
    other = {"text_encoder": pipe.text_encoder_2, "tokenizer": pipe.tokenizer_2}
    pipe.load_textual_inversion({"thing": held["clip_g"]}, **other)
    system.take(Additions(embeddings=((tmp_path / "thing.safetensors", ""),)))
    told = {"prompt": ["red thing"] * 2, "height": 40, "width": 56}
    want = theirs(pipe, **told, num_inference_steps=2, guidance_scale=3.0)
    request = OURS | {"prompt": "red thing", "solver": "euler"}
    assert apart(picture(system, **request), want) <= TOLERANCE
    assert apart(picture(LDM.from_diffusers(xl), **request), want) > 5 * TOLERANCE


def test_words_may_be_called_otherwise_and_stand_alone(one, tmp_path):
    save_file({"<thing>": vectors(1, 24)[0]}, tmp_path / "word.safetensors")
    system = LDM.from_diffusers(one)
    system.take(Additions(embeddings=((tmp_path / "word.safetensors", "Moo"),)))
    [words] = system.reader.tokenizers
    new = len(words.vocabulary)
    assert list(words.numbers("moo, MOO")).count(new) == 2
    assert new not in list(words.numbers("moon amoo"))


def test_what_is_no_word_for_this_model_is_refused(one, tmp_path):
    file = tmp_path / "word.safetensors"
    save_file({"<thing>": vectors(1, 25)}, file)
    with pytest.raises(DataError, match=r"vectors of width 25, but this model reads 24; it was made for"):
        LDM.from_diffusers(one).take(Additions(embeddings=((file, ""),)))
    save_file({"a": vectors(1, 24), "b": vectors(1, 24)}, file)
    with pytest.raises(DataError, match="holds 2 tensors, where a word has one"):
        read_embedding(file)
    save_file({"a": torch.ones(1, 2, 3)}, file)
    with pytest.raises(DataError, match="a tensor of 3 dimensions, which is no word"):
        read_embedding(file)
