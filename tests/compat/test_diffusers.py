"""Reading and writing diffusers' folders: every part computes the same, every fault is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, StableDiffusionPipeline, UNet2DConditionModel, UNet2DModel
from safetensors.torch import load_file, save_file

from sfumato.compat.diffusers import DDPMFolder, pipeline_of
from sfumato.compat.part import DIFFUSERS, Weights, fill, read_weights
from sfumato.compat.stable_diffusion import StableDiffusionFolder
from sfumato.compat.unet import read_unet, read_unet_condition, write_unet, write_unet_condition
from sfumato.compat.vae import write_vae
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import Autoencoder, AutoencoderConfig
from sfumato.nn.clip_text import ClipText
from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNet, UNetConfig
from tests.compat.folders import ddpm, stable_diffusion


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """One folder of each kind; tests that break something copy it."""
    top = tmp_path_factory.mktemp("originals")
    return {
        "sd1": stable_diffusion(top / "sd1", 1),
        "sd2": stable_diffusion(top / "sd2", 2),
        "ddpm": ddpm(top / "ddpm"),
    }


@pytest.fixture
def copy(originals, tmp_path):
    return lambda name: shutil.copytree(originals[name], tmp_path / name)


def built(kind, config, weights):
    with torch.device("meta"):
        module = kind(config)
    fill(module, weights)
    return module.eval()


def assembled(folder):
    found = StableDiffusionFolder.read(folder)
    built(UNet, found.unet, found.weights["unet"])
    built(Autoencoder, found.vae, found.weights["vae"])
    built(ClipText, found.text, found.weights["text_encoder"])


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", ["sd1", "sd2"])
def test_the_parts_of_stable_diffusion_compute_the_same(originals, name):
    pipe = StableDiffusionPipeline.from_pretrained(originals[name])
    found = StableDiffusionFolder.read(originals[name])
    assert (found.height, found.width, found.scale) == (40, 56, 0.7)
    assert found.scheduler.predicts == ("eps" if name == "sd1" else "v")
    assert found.notes == ()
    tokens = found.tokenizers["tokenizer"].encode(["a red circle", "stars!"]).tokens
    words = pipe.tokenizer(["a red circle", "stars!"], padding="max_length", truncation=True)
    assert tokens.tolist() == words["input_ids"]
    text = built(ClipText, found.text, found.weights["text_encoder"])
    net = built(UNet, found.unet, found.weights["unet"])
    stage = built(Autoencoder, found.vae, found.weights["vae"])
    z, x, clock = normal(2, 4, 10, 14), normal(2, 3, 40, 56), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        read = text(tokens)
        torch.testing.assert_close(read, pipe.text_encoder(tokens)[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            net(z, clock, Condition(tokens=read)), pipe.unet(z, clock, read).sample, rtol=1e-3, atol=1e-4
        )
        torch.testing.assert_close(stage.decode(z), pipe.vae.decode(z).sample, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            stage.encode(x)[0], pipe.vae.encode(x).latent_dist.mean, rtol=1e-3, atol=1e-4
        )


def test_the_unet_of_ddpm_computes_the_same(originals):
    pipe = DDPMPipeline.from_pretrained(originals["ddpm"])
    found = DDPMFolder.read(originals["ddpm"])
    assert (found.height, found.width) == (12, 20)
    assert found.scheduler.clip == 1.0
    net = built(UNet, found.unet, found.weights)
    x, clock = normal(2, 3, 12, 20), torch.tensor([3.0, 700.0])
    with torch.no_grad():
        torch.testing.assert_close(
            net(x, clock, Condition()), pipe.unet(x, clock).sample, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("name", ["sd1", "sd2"])
def test_what_we_write_of_stable_diffusion_diffusers_reads(originals, tmp_path, name):
    found = StableDiffusionFolder.read(originals[name])
    found.write(tmp_path / "new")
    again = StableDiffusionFolder.read(tmp_path / "new")
    for part, weights in found.weights.items():
        torch.testing.assert_close(dict(again.weights[part].tensors), dict(weights.tensors), rtol=0, atol=0)
    same = ("vae", "text", "scale", "scheduler", "height", "width")
    assert all(getattr(again, name) == getattr(found, name) for name in same)
    assert again.unet.levels == found.unet.levels
    one, two = (StableDiffusionPipeline.from_pretrained(f) for f in (originals[name], tmp_path / "new"))
    for part in ("unet", "vae", "text_encoder"):
        a, b = getattr(one, part).state_dict(), getattr(two, part).state_dict()
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert type(one.scheduler) is type(two.scheduler)
    assert one.tokenizer("a red circle!")["input_ids"] == two.tokenizer("a red circle!")["input_ids"]
    z, tokens = normal(2, 4, 10, 14), normal(2, 13, found.text.width)
    with torch.no_grad():
        torch.testing.assert_close(
            one.unet(z, 700, tokens).sample, two.unet(z, 700, tokens).sample, rtol=0, atol=0
        )


def test_what_we_write_of_ddpm_diffusers_reads(originals, tmp_path):
    found = DDPMFolder.read(originals["ddpm"])
    found.write(tmp_path / "new")
    assert pipeline_of(tmp_path / "new") == "DDPMPipeline"
    one, two = (DDPMPipeline.from_pretrained(f) for f in (originals["ddpm"], tmp_path / "new"))
    torch.testing.assert_close(one.unet.state_dict(), two.unet.state_dict(), rtol=0, atol=0)
    x = normal(1, 3, 12, 20)
    with torch.no_grad():
        torch.testing.assert_close(one.unet(x, 3).sample, two.unet(x, 3).sample, rtol=0, atol=0)
    assert DDPMFolder.read(tmp_path / "new").unet.levels == found.unet.levels


SHAPES = {
    "heads": UNetConfig(widths=(8, 16), attend=(False, True), heads=(4,), groups=4, blocks=(1,)),
    "adm": UNetConfig(
        widths=(8, 16, 16),
        attend=(False, True, True),
        head_width=8,
        groups=4,
        resblock="scale_shift",
        resize="resblock",
        out_channels=6,
    ),
    "plain": UNetConfig(
        widths=(8, 8), middle_attention=False, groups=2, downsample_padding=0, freq_shift=1.0
    ),
}


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_our_unets_in_diffusers_words(config):
    words = write_unet(config, (12, 20))
    model = UNet2DModel.from_config(words)
    net = UNet(config)
    model.load_state_dict(net.state_dict())
    assert UNet(read_unet(dict(model.config), "unet")).state_dict().keys() == net.state_dict().keys()
    assert read_unet(words, "unet").levels[-1] == config.levels[-1]
    x = normal(2, 3, 12, 20)
    with torch.no_grad():
        torch.testing.assert_close(
            net.eval()(x, torch.tensor([5.0, 5.0]), Condition()),
            model.eval()(x, 5).sample,
            rtol=1e-3,
            atol=1e-4,
        )


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: write_unet(UNetConfig(patch=2), (8, 8)), "works on single cells, this one on squares of 2"),
        (lambda: write_unet(UNetConfig(context=8), (8, 8)), "reads a condition is no UNet2DModel"),
        (lambda: write_unet(UNetConfig(blocks=(1, 1, 2, 2)), (8, 8)), "one number of blocks for all levels"),
        (lambda: write_unet(UNetConfig(freq_shift=0.5), (8, 8)), "freq_shift is a whole number, got 0.5"),
        (lambda: write_unet_condition(UNetConfig(), (8, 8)), "needs a context, transformers in every"),
        (
            lambda: write_vae(AutoencoderConfig(patch=2), 1.0, (8, 8)),
            "single pixels, this one on squares of 2",
        ),
    ],
)
def test_what_diffusers_cannot_say_is_refused(write, message):
    with pytest.raises(UsageError, match=message):
        write()


PUBLISHED = {
    "1.5": {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "sample_size": 64,
    }
    | {
        "center_input_sample": False,
        "cross_attention_dim": 768,
        "downsample_padding": 1,
        "layers_per_block": 2,
    }
    | {"block_out_channels": [320, 640, 1280, 1280], "mid_block_scale_factor": 1, "norm_eps": 1e-05}
    | {"flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "norm_num_groups": 32, "out_channels": 4},
    "2.1": {"_class_name": "UNet2DConditionModel", "attention_head_dim": [5, 10, 20, 20], "sample_size": 96}
    | {"cross_attention_dim": 1024, "dual_cross_attention": False, "only_cross_attention": False}
    | {"num_class_embeds": None, "upcast_attention": True, "use_linear_projection": True}
    | {"block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "mid_block_scale_factor": 1},
    "XL": {"_class_name": "UNet2DConditionModel", "attention_head_dim": [5, 10, 20], "sample_size": 128}
    | {"block_out_channels": [320, 640, 1280], "transformer_layers_per_block": [1, 2, 10]}
    | {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]}
    | {"up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]}
    | {"addition_embed_type": "text_time", "addition_time_embed_dim": 256, "cross_attention_dim": 2048}
    | {"projection_class_embeddings_input_dim": 2816, "use_linear_projection": True, "upcast_attention": None}
    | {"addition_embed_type_num_heads": 64, "class_embed_type": None, "time_embedding_dim": None},
    "XL refiner": {"_class_name": "UNet2DConditionModel", "attention_head_dim": [6, 12, 24, 24]}
    | {"block_out_channels": [384, 768, 1536, 1536], "transformer_layers_per_block": 4, "sample_size": 128}
    | {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]}
    | {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]}
    | {"addition_embed_type": "text_time", "addition_time_embed_dim": 256, "cross_attention_dim": 1280}
    | {"projection_class_embeddings_input_dim": 2560, "use_linear_projection": True},
    "inpainting": {"_class_name": "UNet2DConditionModel", "in_channels": 9, "cross_attention_dim": 768},
    "upscaler": {"_class_name": "UNet2DConditionModel", "in_channels": 7, "num_class_embeds": 1000}
    | {"block_out_channels": [256, 512, 512, 1024], "cross_attention_dim": 1024, "attention_head_dim": 8}
    | {"down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3], "sample_size": 128}
    | {"up_block_types": [*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"], "use_linear_projection": True}
    | {"only_cross_attention": [True, True, True, False]},
}
"""What the published files say, as far as it changes the network."""


TENSORS = {
    "1.5": (686, 859_520_964),
    "2.1": (686, 865_910_724),
    "XL": (1680, 2_567_463_684),
    "XL refiner": (1220, 2_259_526_660),
    "inpainting": (686, 859_535_364),
    "upscaler": (687, 473_398_020),
}
"""How many tensors and numbers each network has."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_stable_diffusion(name):
    config = PUBLISHED[name]
    with torch.device("meta"):
        ours = UNet(read_unet_condition(config, "unet")).state_dict()
        theirs = UNet2DConditionModel.from_config(config).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    assert (len(ours), sum(v.numel() for v in ours.values())) == TENSORS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_shapes_are_written_as_they_were_read(name):
    shape = read_unet_condition(PUBLISHED[name], "unet")
    again = read_unet_condition(write_unet_condition(shape, (64, 64)), "unet")
    assert again.levels == shape.levels
    assert (again.in_channels, again.context, again.vector, again.classes) == (
        shape.in_channels,
        shape.context,
        shape.vector,
        shape.classes,
    )


def test_labels_have_no_place_in_a_ddpm_pipeline(originals, tmp_path):
    found = DDPMFolder.read(originals["ddpm"])
    told = DDPMFolder(UNetConfig(classes=3), found.weights, found.scheduler, 12, 20)
    with pytest.raises(UsageError, match="cannot be told a label; only models without labels"):
        told.write(tmp_path / "new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match=r"full' is not empty; give a new folder"):
        found.write(tmp_path / "full")
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def reweigh(folder, change):
    """Change the tensors of a part in place."""
    file = next(folder.glob("*.safetensors"))
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_old_names_of_attention_are_understood(copy):
    folder = copy("ddpm")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def age(tensors):
        for name in [n for n in tensors if ".attentions." in n]:
            for new, before in old.items():
                if f".{new}." in name:
                    tensors[name.replace(new, before)] = tensors.pop(name)

    want = DDPMFolder.read(folder).weights.tensors
    reweigh(folder / "unet", age)
    assert any(".proj_attn." in n for n in load_file(next((folder / "unet").glob("*.safetensors"))))
    torch.testing.assert_close(dict(DDPMFolder.read(folder).weights.tensors), dict(want), rtol=0, atol=0)


def test_text_encoders_with_and_without_prefix_and_positions(copy):
    folder = copy("sd1") / "text_encoder"
    names = set(StableDiffusionFolder.read(folder.parent).weights["text_encoder"].tensors)

    def publish(tensors):
        for name in list(tensors):
            tensors["text_model." + name.removeprefix("text_model.")] = tensors.pop(name)
        tensors["text_model.embeddings.position_ids"] = torch.arange(13)[None]

    reweigh(folder, publish)
    assert set(StableDiffusionFolder.read(folder.parent).weights["text_encoder"].tensors) == names
    assert all(name.startswith("text_model.") for name in names)


def test_half_precision_and_shards(copy):
    folder = copy("ddpm") / "unet"
    whole = load_file(folder / "diffusion_pytorch_model.safetensors")
    save_file({k: v.half() for k, v in whole.items()}, folder / "diffusion_pytorch_model.fp16.safetensors")
    assert read_weights(folder, DIFFUSERS).tensors["conv_in.weight"].dtype == torch.float32
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    assert read_weights(folder, DIFFUSERS).tensors["conv_in.weight"].dtype == torch.float16
    files = {
        name: f"diffusion_pytorch_model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(whole)
    }
    for file in set(files.values()):
        save_file({k: v for k, v in whole.items() if files[k] == file}, folder / file)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    torch.testing.assert_close(dict(read_weights(folder, DIFFUSERS).tensors), whole, rtol=0, atol=0)
    (folder / files["conv_in.weight"]).unlink()
    with pytest.raises(DataError, match=r"has no diffusion_pytorch_model-0000.-of-00002.safetensors, which"):
        read_weights(folder, DIFFUSERS)
    for outside in ("../model.safetensors", "model.bin"):
        index.write_text(json.dumps({"weight_map": {"conv_in.weight": outside}}))
        with pytest.raises(DataError, match=f"names '{outside}', which is no safetensors file beside it"):
            read_weights(folder, DIFFUSERS)
    index.write_text(json.dumps({"weight_map": [1]}))
    with pytest.raises(DataError, match="has no list of files under 'weight_map'"):
        read_weights(folder, DIFFUSERS)


def damage(part, change):
    """A change of the tensors of one part."""
    return lambda folder: reweigh(folder / part, change)


def setting(part, **changes):
    """A change of the configuration of one part."""

    def change(folder):
        path = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def indexed(**changes):
    def change(folder):
        path = folder / "model_index.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def pickled(folder):
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))


def cut(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def one_of_each(tensors):
    tensors.pop("conv_in.bias")
    tensors.pop("conv_out.bias")
    tensors["surprise"] = torch.zeros(1)
    tensors["conv_in.weight"] = torch.zeros(12, 4, 5, 5)


REFUSED = {
    "missing": (
        damage("unet", lambda t: t.pop("conv_in.bias")),
        r"unet' do not fit.*: 1 missing \(conv_in.bias\)",
    ),
    "extra": (
        damage("vae", lambda t: t.update(more=torch.zeros(1))),
        r"vae' do not fit.*: 1 unknown \(more\)",
    ),
    "misshapen": (
        damage("text_encoder", lambda t: t.update({"final_layer_norm.bias": torch.zeros(7)})),
        r"text_encoder' do not fit.*1 misshapen \(text_model.final_layer_norm.bias is \(7,\) instead of ",
    ),
    "all at once": (
        damage("unet", one_of_each),
        r"2 missing \(conv_in.bias and 1 more\); 1 unknown \(surprise\); 1 misshapen \(conv_in.weight is",
    ),
    "pickle": (pickled, "keeps its weights in diffusion_pytorch_model.bin, a pickle, which can run code"),
    "no weights": (
        lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(),
        "has no diffusion_pytorch_model.safetensors; fetch it",
    ),
    "cut": (cut, "is damaged or incomplete"),
    "no config": (lambda f: (f / "unet" / "config.json").unlink(), "config.json' is missing; copy it"),
    "broken config": (lambda f: (f / "vae" / "config.json").write_text("{,"), "is not JSON"),
    "list": (lambda f: (f / "vae" / "config.json").write_text("[]"), "must hold a JSON object, got list"),
    "pipeline": (indexed(_class_name="FluxPipeline"), "holds a FluxPipeline, but a StableDiffusionPipeline"),
    "part": (indexed(vae=["diffusers", "VQModel"]), "has VQModel as its vae.*with AutoencoderKL only"),
    "no part": (indexed(unet=[None, None]), "has nothing as its unet"),
    "activation": (
        setting("unet", act_fn="mish"),
        "sets act_fn to 'mish', but only 'silu' or 'swish' is understood",
    ),
    "new setting": (setting("unet", magic=2), "unet/config.json' sets magic to 2"),
    "levels": (setting("unet", down_block_types=["DownBlock2D"] * 3), "a mixture that is not understood"),
    "vae levels": (setting("vae", up_block_types=["Other"] * 3), r"sets up_block_types to \['Other', "),
    "shift": (setting("vae", shift_factor=0.1), "sets shift_factor to 0.1"),
    "mask": (setting("text_encoder", use_attention_mask=True), "sets use_attention_mask to True"),
    "gelu": (setting("text_encoder", hidden_act="gelu_new"), "sets hidden_act to 'gelu_new'"),
    "schedule": (setting("scheduler", beta_schedule="sigmoid"), "sets beta_schedule to 'sigmoid'"),
    "size": (setting("unet", sample_size=None), "sets sample_size to None; write a number there"),
    "inpainting": (setting("unet", in_channels=9), "reads 9 channels and writes 4, but latents have 4"),
    "context": (
        setting("unet", cross_attention_dim=99),
        "tokens of width 99, but the text encoder's have 24",
    ),
    "words": (setting("text_encoder", vocab_size=9), "but the text encoder knows 9 and reads 13"),
    "no words": (
        lambda f: (f / "tokenizer" / "tokenizer.json").unlink(),
        "has no vocab.json; a tokenizer has",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_folder_is_refused_with_one_error(copy, change, message):
    folder = copy("sd1")
    change(folder)
    with pytest.raises(DataError, match=message):
        assembled(folder)


def test_a_ddpm_folder_that_is_not_understood_is_refused(copy):
    folder = copy("ddpm")
    setting("unet", attn_norm_num_groups=2)(folder)
    with pytest.raises(DataError, match="sets attn_norm_num_groups to 2, but only 4 or None is understood"):
        DDPMFolder.read(folder)
    setting("unet", attn_norm_num_groups=4, upsample_type="resnet")(folder)
    with pytest.raises(DataError, match="a mixture that is not understood"):
        DDPMFolder.read(folder)


def test_what_is_not_used_is_noted(copy):
    folder = copy("sd1")
    indexed(safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])(folder)
    assert StableDiffusionFolder.read(folder).notes == (
        f"'{folder}' has a safety_checker, which is not used.",
    )


def test_weights_may_be_given_from_anywhere():
    net = Autoencoder(AutoencoderConfig(widths=(4,), groups=2))
    with pytest.raises(DataError, match=r"weights in '\.' do not fit"):
        fill(net, Weights({}))


def test_the_memory_of_a_file_goes_with_its_tensors_a_few_at_a_time(tmp_path):
    tensors = {f"w{i:02}": torch.full((300, 5), float(i)) for i in range(40)}
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    found = dict(read_weights(tmp_path, DIFFUSERS).tensors)
    torch.testing.assert_close(found, tensors, rtol=0, atol=0)
    if (maps := Path("/proc/self/maps")).exists():  # Linux tells what is mapped
        assert maps.read_text().count(str(tmp_path)) > 1
        last = found.pop("w39")
        found.clear()
        assert maps.read_text().count(str(tmp_path)) == 1
        assert last[0, 0] == 39
