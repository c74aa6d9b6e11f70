"""CLIP against transformers on tiny random weights, and OpenAI's files against a module built as theirs."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor, nn

import sfumato
from sfumato.apps.cli import main
from sfumato.apps.load import load
from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.errors import DataError, UsageError
from sfumato.images import cover, to_tensor
from sfumato.nn.clip import ClipConfig, covering
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.vit import VitConfig
from sfumato.systems.text.clip import CLIP, CLIPConfig

TEXTS = ["a red circle", "red", "an owl, at night; and a lynx that does not fit at all any more, sadly"]
MERGES = ("r e", "re d</w>", "c i", "l e</w>", "a n", "o w")
TOKENIZER = ClipTokenizer.of(MERGES, length=13)
SIZE, PATCH = 20, 4


def randomised(model: nn.Module, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)


def theirs(activation: str = "gelu", end: int = TOKENIZER.eos) -> transformers.CLIPModel:
    shared = {"num_attention_heads": 4, "hidden_act": activation, "projection_dim": 12}
    text = {
        "vocab_size": len(TOKENIZER.vocabulary), "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 3, "max_position_embeddings": 13, "bos_token_id": TOKENIZER.bos,
        "eos_token_id": end, "layer_norm_eps": 1e-4,
    }  # fmt: skip
    vision = {
        "hidden_size": 20, "intermediate_size": 36, "num_hidden_layers": 2, "image_size": SIZE,
        "patch_size": PATCH, "num_channels": 3,
    }  # fmt: skip
    config = transformers.CLIPConfig(
        text_config=text | shared, vision_config=vision | shared, projection_dim=12
    )
    model = transformers.CLIPModel(config).eval()
    randomised(model)
    return model


def processor(size: int = SIZE) -> transformers.CLIPImageProcessor:
    return transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)


@pytest.fixture(scope="module", params=["gelu", "quick_gelu"])
def folder(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / request.param
    theirs(request.param).save_pretrained(path)
    processor().save_pretrained(path)
    TOKENIZER.write(path)
    return path


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Photograph-like noise of odd sizes: wide, high, smaller than the network's, and just right."""
    draw = np.random.default_rng(0)
    shapes = [(31, 57), (64, 23), (13, 17), (SIZE, SIZE)]
    return [Image.fromarray(draw.integers(0, 256, (*shape, 3), np.uint8)) for shape in shapes]


# --- transformers ------------------------------------------------------------------------------------


@torch.no_grad()
def test_embeddings_and_logits_equal_transformers(folder, pictures):
    model, system = (
        transformers.CLIPModel.from_pretrained(folder),
        load(folder, precision="fp32", device="cpu"),
    )
    tokens = transformers.CLIPTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", truncation=True, max_length=13, return_tensors="pt"
    )
    pixels = processor()(pictures, return_tensors="pt")["pixel_values"]
    want = model(**tokens, pixel_values=pixels)

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model_mean(), model_std()))
    images = system.encode_images((pixels * std + mean) * 2 - 1)
    texts = system.encode_texts(TEXTS)
    torch.testing.assert_close(images, want.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(texts, want.text_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(images @ texts.T * system.scale, want.logits_per_image, rtol=1e-5, atol=1e-5)
    assert system.unread(TEXTS)[0].startswith("The end of 'an owl, at night")


def model_mean() -> tuple[float, ...]:
    return (0.48145466, 0.4578275, 0.40821073)


def model_std() -> tuple[float, ...]:
    return (0.26862954, 0.26130258, 0.27577711)


@pytest.mark.parametrize("size", [20, 33])
def test_pictures_are_prepared_as_transformers_prepares_them(pictures, size):
    """Files exactly, by Pillow as there; numbers within a grey level, where pictures are not mere noise."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model_mean(), model_std()))
    for picture in [*pictures, waves(40, 71), waves(90, 35)]:
        want = processor(size)(picture, return_tensors="pt")["pixel_values"][0] * std + mean
        exact = (to_tensor(cover(picture, size, size)) + 1) / 2
        torch.testing.assert_close(exact, want, atol=1e-6, rtol=0)
        if picture not in pictures:
            got = (covering(to_tensor(picture)[None], (size, size))[0] + 1) / 2
            assert (got - want).abs().max() <= 1 / 255 + 1e-6, picture.size


def waves(height: int, width: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(x / 3 + y / 5), np.cos(x / 7), np.sin(y / 2 - x / 9)]
    return Image.fromarray((np.stack(channels, 2) * 120 + 128).astype(np.uint8))


def test_a_folder_written_here_opens_in_transformers(folder, tmp_path, pictures):
    system = load(folder, precision="fp32", device="cpu")
    out = tmp_path / "out"
    assert main(["export", str(folder), str(out), "--quiet"]) == 0
    model, info = transformers.CLIPModel.from_pretrained(out, output_loading_info=True)
    assert not any(info[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ready = transformers.CLIPProcessor.from_pretrained(out)(
        text=TEXTS, images=pictures, padding=True, truncation=True, max_length=13, return_tensors="pt"
    )
    with torch.no_grad():
        want = model(**ready).logits_per_image
        images = torch.cat([system.encode_images(to_tensor(picture)[None]) for picture in pictures])
        got = images @ system.encode_texts(TEXTS).T * system.scale
    torch.testing.assert_close(got[-1], want[-1], rtol=1e-5, atol=1e-5)  # its picture needs no scaling
    assert (got - want).abs().max() < 0.1
    again = load(out, precision="fp32", device="cpu")
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, system.state_dict()[name]), name
    assert again.config == system.config


def test_what_is_trained_here_opens_in_transformers(tmp_path):
    args = ["--steps", "1", "--batch", "4", "--precision", "fp32", "--previews", "0", "--quiet"]
    small = ["--network.vision.layers", "1", "--network.text.layers", "1", "--network.vision.stem"]
    assert main(["train", "clip", "laptop", "--out", str(tmp_path / "run"), *args, *small]) == 0
    system = sfumato.load(tmp_path / "run", precision="fp32", device="cpu")
    system.to_diffusers(tmp_path / "out")
    model = transformers.CLIPModel.from_pretrained(tmp_path / "out")
    tokens = transformers.CLIPTokenizer.from_pretrained(tmp_path / "out")(
        TEXTS[:2], return_tensors="pt", padding=True
    )
    with torch.no_grad():
        want = nn.functional.normalize(model.get_text_features(**tokens).pooler_output, dim=1)
        torch.testing.assert_close(system.encode_texts(TEXTS[:2]), want, rtol=0, atol=1e-5)


def test_a_stem_of_convolutions_cannot_be_written_for_transformers(tmp_path):
    vision = VitConfig(size=(8, 8), patch=4, width=8, layers=1, heads=2, hidden=8, stem=(4,))
    text = ClipTextConfig(vocabulary=514, length=9, width=8, layers=1, heads=2, hidden=8)
    system = CLIP(CLIPConfig(ClipConfig(vision, text, dimension=4, end=513)))
    with pytest.raises(UsageError, match=r"train one with an empty network\.vision\.stem"):
        system.to_diffusers(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_old_folders_have_their_end_of_text_found(folder, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    said = json.loads((old / "config.json").read_text())
    said["text_config"]["eos_token_id"] = 2
    said["text_config_dict"] = {"hidden_act": said["text_config"].pop("hidden_act")}
    (old / "config.json").write_text(json.dumps(said))
    systems = [load(place, precision="fp32", device="cpu") for place in (old, folder)]
    assert systems[0].config == systems[1].config


SPOILT = {
    "another end": (
        lambda c: c["text_config"].update(eos_token_id=7),
        r"end with token \d+, but config.json says 7",
    ),
    "short": (
        lambda c: c["text_config"].update(max_position_embeddings=9),
        "knows 520 and reads 9; take both",
    ),
    "activation": (
        lambda c: c["vision_config"].update(hidden_act="relu"),
        "sets hidden_act to 'relu', but only",
    ),
    "no tower": (lambda c: c.update(vision_config=3), "must hold an object under 'vision_config'"),
    "width": (lambda c: c.update(projection_dim=11), "do not fit its config.json"),
    "another class": (
        lambda c: c.update(architectures=["SiglipModel"]),
        "holds a SiglipModel, which sfumato cannot",
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_folder_that_is_not_understood_is_refused(folder, tmp_path, what):
    spoil, message = SPOILT[what]
    shutil.copytree(folder, tmp_path / "bad")
    said = json.loads((tmp_path / "bad" / "config.json").read_text())
    spoil(said)
    (tmp_path / "bad" / "config.json").write_text(json.dumps(said))
    with pytest.raises(DataError, match=message):
        load(tmp_path / "bad")


def test_pictures_prepared_otherwise_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bad")
    path = tmp_path / "bad" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resample": 2}))
    with pytest.raises(DataError, match=r"sets resample to 2, but only None or 3 is understood"):
        load(tmp_path / "bad")


def test_a_network_for_oblong_pictures_cannot_become_a_folder(tmp_path, folder):
    system = load(folder, precision="fp32", device="cpu")
    facts = sfumato.data.dataset.Facts("odd", 3, 8, 12, frozenset({"image", "caption"}), words=("a",))
    odd = CLIP(CLIP.fit(system.config, facts))
    with pytest.raises(UsageError, match="looks at squares, this network at pictures of 8 x 12"):
        odd.to_diffusers(tmp_path / "out")
    with pytest.raises(UsageError, match="is not empty; give a new folder"):
        system.to_diffusers(folder)


# --- OpenAI ------------------------------------------------------------------------------------------


class Block(nn.Module):
    """A layer as OpenAI's files name it."""

    def __init__(self, width: int, hidden: int, causal: int = 0):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, max(1, width // 64))
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))
        mask = torch.full((causal, causal), float("-inf")).triu(1) if causal else None
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.mask)[0]
        y = self.mlp[0](self.ln_2(x))
        return x + self.mlp[1](y * torch.sigmoid(1.702 * y))


class Trunk(nn.Module):
    def __init__(self, width: int, hidden: int, layers: int, causal: int = 0):
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, hidden, causal) for _ in range(layers)))


class Looking(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(64))
        self.positional_embedding = nn.Parameter(torch.zeros((SIZE // PATCH) ** 2 + 1, 64))
        self.ln_pre, self.ln_post = nn.LayerNorm(64), nn.LayerNorm(64)
        self.transformer = Trunk(64, 48, 2)
        self.proj = nn.Parameter(torch.zeros(64, 10))


class OpenAI(nn.Module):
    """CLIP with OpenAI's names, layouts and order of axes; 64 wide where looking, 128 where reading."""

    def __init__(self):
        super().__init__()
        self.visual = Looking()
        self.transformer = Trunk(128, 72, 3, causal=13)
        self.token_embedding = nn.Embedding(len(TOKENIZER.vocabulary), 128)
        self.positional_embedding = nn.Parameter(torch.zeros(13, 128))
        self.ln_final = nn.LayerNorm(128)
        self.text_projection = nn.Parameter(torch.zeros(128, 10))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        randomised(self, 3)

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        v = self.visual
        x = v.conv1(pixels).flatten(2).permute(2, 0, 1)
        x = torch.cat([v.class_embedding.expand(1, x.shape[1], 64), x]) + v.positional_embedding[:, None]
        x = v.ln_post(v.transformer.resblocks(v.ln_pre(x))[0]) @ v.proj
        y = self.token_embedding(tokens).permute(1, 0, 2) + self.positional_embedding[:, None]
        y = self.ln_final(self.transformer.resblocks(y)).permute(1, 0, 2)
        return x, y[torch.arange(len(tokens)), tokens.argmax(1)] @ self.text_projection


@pytest.fixture(scope="module")
def openai() -> OpenAI:
    return OpenAI().eval()


def examples() -> tuple[Tensor, Tensor]:
    pixels = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)).clamp(-1, 1)
    return pixels, TOKENIZER.encode(TEXTS).tokens


@pytest.fixture(scope="module")
def archive(openai, tmp_path_factory) -> Path:
    """As OpenAI publishes its models: a traced module, with the vocabulary's merges beside it."""
    folder = tmp_path_factory.mktemp("openai")
    lines = ["version", *MERGES]
    (folder / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    with warnings.catch_warnings(action="ignore"):
        traced = torch.jit.trace(openai, examples())
    traced.save(folder / "tiny.pt")
    return folder / "tiny.pt"


def check_openai(system: CLIP, openai: OpenAI) -> None:
    pixels, tokens = examples()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model_mean(), model_std()))
    with torch.no_grad():
        images, texts = openai(((pixels + 1) / 2 - mean) / std, tokens)
        got = system.encode_images(pixels), system.encode_texts(TEXTS)
    for mine, want in zip(got, (images, texts), strict=True):
        torch.testing.assert_close(mine, nn.functional.normalize(want, dim=1), rtol=0, atol=1e-5)
    torch.testing.assert_close(system.scale, openai.logit_scale.exp())


def test_openais_archive_is_read_without_running_its_code(archive, openai, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *_: pytest.fail("its code was run"))
    check_openai(load(archive, precision="fp32", device="cpu"), openai)
    check_openai(load(archive.parent, precision="fp32", device="cpu"), openai)


def test_openais_state_dict_is_read(openai, tmp_path):
    held = openai.state_dict() | {"input_resolution": torch.tensor(SIZE), "vocab_size": torch.tensor(520)}
    torch.save(held, tmp_path / "ViT.pt")
    with pytest.raises(DataError, match=r"does not hold its tokenizer; put vocab.json and merges.txt"):
        load(tmp_path / "ViT.pt")
    TOKENIZER.write(tmp_path)
    check_openai(load(tmp_path / "ViT.pt", precision="fp32", device="cpu"), openai)


class Trap:
    """What a pickle would call if it could."""

    def __reduce__(self):
        return (pytest.fail, ("it ran",))


def test_an_archive_that_names_what_no_network_needs_is_refused(archive, tmp_path):
    bad = tmp_path / "bad.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickle.dumps(Trap()) if name.endswith("/data.pkl") else old.read(name))
    with pytest.raises(
        DataError, match=r"it names _pytest\.outcomes\.fail|which no module of networks needs"
    ):
        load(bad)


def test_damaged_and_foreign_files_are_refused(archive, openai, tmp_path):
    cut = tmp_path / "cut.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(cut, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"xy" if name.endswith("/data/3") else old.read(name))
    with pytest.raises(DataError, match=r"no whole TorchScript archive \(its tensor 3 is cut off\)"):
        load(cut)

    held = openai.state_dict()
    torch.save(held | {"visual.attnpool.positional_embedding": torch.zeros(2)}, tmp_path / "resnet.pt")
    with pytest.raises(DataError, match="image tower is a ResNet; only vision transformers"):
        load(tmp_path / "resnet.pt")
    torch.save({k: v for k, v in held.items() if k != "text_projection"}, tmp_path / "part.pt")
    with pytest.raises(DataError, match="lacks 'text_projection' of a CLIP with a vision transformer"):
        load(tmp_path / "part.pt")
    ClipTokenizer.of(MERGES[:2], 13).write(tmp_path)
    torch.save(held, tmp_path / "whole.pt")
    with pytest.raises(DataError, match="has 516 tokens, the model 520; take both from the same model"):
        load(tmp_path / "whole.pt")
