"""Single files that hold a whole Stable Diffusion: kind and shapes are read off the tensors themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from safetensors import SafetensorError
from torch import Tensor

from sfumato.compat import original
from sfumato.compat.original import Table
from sfumato.compat.part import Weights, stored
from sfumato.compat.pth import SAFE, names_in
from sfumato.compat.schedulers import SchedulerSpec
from sfumato.compat.stable_diffusion import TOWER_OF, StableDiffusionFolder
from sfumato.data.clip_bpe import FILES, ONE_FILE, ClipTokenizer
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.unet import UNetConfig

UNET, VAE = "model.diffusion_model.", "first_stage_model."
MARK = f"{UNET}input_blocks.0.0.weight"
"""A tensor that all of them have."""
HEAD = 64
"""Channels of a head in all but the oldest models, whose U-Nets have eight heads everywhere."""
HEADS = 8


@dataclass(frozen=True)
class Tower:
    """A text tower in a file."""

    prefix: str
    layout: Literal["clip", "open_clip"]
    last: bool = True
    """Whether the last layer of a whole tower is read; Stable Diffusion 2 stops one before."""
    projected: bool = False


@dataclass(frozen=True)
class Family:
    """What is particular to the files of one generation of models, and cannot be read off their tensors."""

    towers: Mapping[str, Tower]
    pipeline: str = "StableDiffusionPipeline"
    scale: float = 0.18215
    side: int = 64
    """Of the latents it was trained on."""
    predicts: Literal["eps", "v"] = "eps"
    solver: str = "plms"
    settings: Mapping[str, bool] = field(default_factory=dict)


OPEN_CLIP_1 = "conditioner.embedders.1.model."
FAMILIES = (
    Family(
        {
            "text_encoder": Tower("conditioner.embedders.0.transformer.", "clip"),
            "text_encoder_2": Tower(OPEN_CLIP_1, "open_clip", projected=True),
        },
        "StableDiffusionXLPipeline",
        scale=0.13025,
        side=128,
        solver="euler",
        settings={"force_zeros_for_empty_prompt": True},
    ),
    Family(
        {"text_encoder_2": Tower("conditioner.embedders.0.model.", "open_clip", projected=True)},
        "StableDiffusionXLImg2ImgPipeline",
        scale=0.13025,
        side=128,
        solver="euler",
        settings={"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": True},
    ),
    Family(
        {"text_encoder": Tower("cond_stage_model.model.", "open_clip", last=False)},
        side=96,
        predicts="v",
        solver="ddim",
    ),
    Family({"text_encoder": Tower("cond_stage_model.transformer.", "clip")}),
)
"""The first whose towers a file has is what it is."""


def read_single_file(path: Path, predicts: str = "", words: Path | None = None) -> StableDiffusionFolder:
    """Everything in a ``.safetensors`` file; what is not understood is a ``DataError``.

    A folder stands for the only such file in it. ``predicts`` says "eps" or "v" where the file does not;
    ``words`` is the folder of CLIP's tokenizer, by default one beside the file.
    """
    path = _one(path)
    try:
        given = dict(stored(path))
    except (SafetensorError, OSError) as error:
        raise DataError(f"'{path}' is damaged or incomplete ({error}); fetch it again.") from error
    return understood(given, path, predicts, words)


def understood(
    given: Mapping[str, Tensor], path: Path, predicts: str = "", words: Path | None = None
) -> StableDiffusionFolder:
    """The model whose tensors these are."""
    if predicts not in ("", "eps", "v"):
        raise UsageError(f"A network predicts eps or v here, got '{predicts}'; give one of them.")
    family = _family(given, path)
    try:
        shape, stage = unet_shape(given), vae_shape(given)
        texts = {name: text_shape(given, tower) for name, tower in family.towers.items()}
    except KeyError as error:
        raise DataError(f"'{path}' has no tensor {error}; fetch the whole file again.") from error
    tokenizers = _tokenizers(family, tokenizer_beside(path) if words is None else words)
    ends = {TOWER_OF[name]: tokenizer.eos for name, tokenizer in tokenizers.items()}
    texts = {name: replace(text, end=ends[name]) for name, text in texts.items()}
    weights = {
        "unet": original.ours(original.unet_table(shape), given, UNET),
        "vae": original.ours(original.vae_table(stage), given, VAE, VAE_UNUSED),
        **{name: _text(given, tower, texts[name]) for name, tower in family.towers.items()},
    }
    pipeline = _pipeline(family, shape.in_channels - stage.latent_channels, stage)
    said = predicts or ("v" if "v_pred" in given else family.predicts)
    small = pipeline == "StableDiffusionUpscalePipeline"
    side = stage.factor * (128 if small else 64 if family.side == 96 and said == "eps" else family.side)
    schedulers = {"scheduler": _scheduler(family, said, zero_snr="ztsnr" in given)}
    return StableDiffusionFolder(
        unet=shape,
        vae=stage,
        texts=texts,
        scale=0.08333 if small else family.scale,
        schedulers=schedulers | ({"low_res_scheduler": LOW_RES} if small else {}),
        tokenizers=tokenizers,
        height=side,
        width=side,
        weights={name: Weights(tensors, path) for name, tensors in weights.items()},
        pipeline=pipeline,
        settings=family.settings,
        number_width=_number_width(shape, texts, family),
        notes=_notes(path, family, predicts, given),
    )


def original_tensors(found: StableDiffusionFolder) -> dict[str, Tensor]:
    """A model's tensors as the single file of its family holds them."""
    family = _of(found)
    tensors = original.theirs(original.unet_table(found.unet), found.weights["unet"].tensors, UNET)
    tensors |= original.theirs(original.vae_table(found.vae), found.weights["vae"].tensors, VAE)
    for name, tower in family.towers.items():
        table = _TABLES[tower.layout](found.texts[name])
        tensors |= original.theirs(table, found.weights[name].tensors, tower.prefix)
    return tensors


def _one(path: Path) -> Path:
    """The file, or the only one in a folder."""
    if path.is_file():
        return path
    files = [file for file in sorted(path.glob(f"*{SAFE}")) if MARK in names_in(file)]
    if len(files) != 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"'{path}' holds several models ({names}); give the path of one of them.")
    return files[0]


def tokenizer_beside(path: Path) -> Path:
    """The folder of CLIP's vocabulary, which no single file holds: beside it, in ``tokenizer``, or in the
    ``tokenizer`` of a model beside it."""
    places = [path.parent / "tokenizer", path.parent, *sorted(path.parent.glob("*/tokenizer"))]
    for place in places:
        if (place / FILES[0]).is_file() or (place / ONE_FILE).is_file():
            return place
    raise DataError(
        f"'{path}' holds no vocabulary, and there is none beside it; copy the folder 'tokenizer' of any "
        f"Stable Diffusion (vocab.json and merges.txt) into '{path.parent}'."
    )


# --- shapes ------------------------------------------------------------------------------------------


def unet_shape(given: Mapping[str, Tensor]) -> UNetConfig:
    """The shape of the U-Net in a file."""
    levels = _levels(given)
    middle = f"{UNET}middle_block.1."
    linear = given[f"{middle}proj_in.weight"].ndim == 2
    classes, vector = given.get(f"{UNET}label_emb.weight"), given.get(f"{UNET}label_emb.0.0.weight")
    widths = tuple(level[0].width for level in levels)
    depths = [level[0].depth for level in levels]
    attend = tuple(depth > 0 for depth in depths)
    depths[-1] = depths[-1] or _count(given, f"{middle}transformer_blocks.")
    eight = not linear or classes is not None
    return UNetConfig(
        in_channels=given[MARK].shape[1],
        out_channels=len(given[f"{UNET}out.2.weight"]),
        widths=widths,
        blocks=tuple(len(level) for level in levels),
        attend=attend,
        heads=(HEADS,) if eight else tuple(max(1, width // HEAD) for width in widths),
        depth=tuple(max(depth, 1) for depth in depths),
        context=given[f"{middle}transformer_blocks.0.attn2.to_k.weight"].shape[1],
        only_cross=tuple(level[0].crossed for level in levels),
        linear_projection=linear,
        classes=0 if classes is None else len(classes),
        vector=0 if vector is None else vector.shape[1],
    )


class _Block(NamedTuple):
    width: int
    depth: int
    crossed: bool


def _levels(given: Mapping[str, Tensor]) -> list[list[_Block]]:
    """The blocks on the way down, level by level; a convolution that halves ends a level."""
    levels: list[list[_Block]] = [[]]
    for number in range(1, len(given)):
        at = f"{UNET}input_blocks.{number}."
        if f"{at}0.op.weight" in given:
            levels.append([])
        elif f"{at}0.in_layers.2.weight" in given:
            levels[-1].append(_block(given, at))
        else:
            break
    return levels


def _block(given: Mapping[str, Tensor], at: str) -> _Block:
    width, attention = len(given[f"{at}0.in_layers.2.weight"]), f"{at}1.transformer_blocks."
    if not (depth := _count(given, attention)):
        return _Block(width, 0, False)
    return _Block(width, depth, given[f"{attention}0.attn1.to_k.weight"].shape[1] != width)


def vae_shape(given: Mapping[str, Tensor]) -> AutoencoderConfig:
    """The shape of the autoencoder in a file."""
    levels = _count(given, f"{VAE}encoder.down.")
    names = [f"{VAE}encoder.down.{i}.block.0.conv1.weight" for i in range(levels)]
    return AutoencoderConfig(
        channels=given[f"{VAE}encoder.conv_in.weight"].shape[1],
        latent_channels=len(given[f"{VAE}post_quant_conv.weight"]),
        widths=tuple(len(given[name]) for name in names),
        blocks=_count(given, f"{VAE}encoder.down.0.block."),
    )


def text_shape(given: Mapping[str, Tensor], tower: Tower) -> ClipTextConfig:
    """The shape of a text tower in a file, without the layer that is not read."""
    clip, at = tower.layout == "clip", tower.prefix
    inner = "text_model.embeddings." if clip else ""
    layers = f"{at}{'text_model.encoder.layers' if clip else 'transformer.resblocks'}."
    vocabulary, width = given[f"{at}{inner}token_embedding.weight"].shape
    position = "position_embedding.weight" if clip else "positional_embedding"
    return ClipTextConfig(
        vocabulary=vocabulary,
        length=len(given[f"{at}{inner}{position}"]),
        width=width,
        layers=_count(given, layers) - (not tower.last and f"{at}text_projection" in given),
        heads=max(1, width // HEAD),
        hidden=len(given[f"{layers}0.mlp.{'fc1' if clip else 'c_fc'}.weight"]),
        activation="quick_gelu" if clip else "gelu",
        projection=given[f"{at}text_projection"].shape[1] if tower.projected else 0,
    )


def _count(given: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbers follow ``prefix`` in the names of tensors."""
    return len({name[len(prefix) :].partition(".")[0] for name in given if name.startswith(prefix)})


# --- parts -------------------------------------------------------------------------------------------

_TABLES: dict[str, Callable[[ClipTextConfig], Table]] = {
    "clip": original.clip_table,
    "open_clip": original.open_clip_table,
}
VAE_UNUSED = (r"loss\..*", r"model_ema\..*")
LOW_RES = SchedulerSpec("ancestral", betas="scaled_linear", first=1e-4, last=0.02)
"""How the upscaler's small pictures were noised."""


def _family(given: Mapping[str, Tensor], path: Path) -> Family:
    for family in FAMILIES:
        if all(any(name.startswith(t.prefix) for name in given) for t in family.towers.values()):
            return family
    raise DataError(
        f"'{path}' holds no text encoder of Stable Diffusion 1, 2 or XL; give a file with the whole model."
    )


def _of(found: StableDiffusionFolder) -> Family:
    """The family of a model: that with the same towers, of the same activations."""
    for family in FAMILIES:
        same = family.towers.keys() == found.texts.keys() and all(
            (tower.layout == "clip") == (found.texts[name].activation == "quick_gelu")
            for name, tower in family.towers.items()
        )
        if same:
            return family
    raise UsageError("No single file has these text encoders; export a folder instead.")


def _pipeline(family: Family, beside: int, stage: AutoencoderConfig) -> str:
    """Which pipeline reads so many channels beside the latents."""
    if family.pipeline != "StableDiffusionPipeline" or not beside:
        return family.pipeline
    masked = beside == 1 + stage.latent_channels
    return "StableDiffusionInpaintPipeline" if masked else "StableDiffusionUpscalePipeline"


def _text(given: Mapping[str, Tensor], tower: Tower, shape: ClipTextConfig) -> dict[str, Tensor]:
    unused = original.CLIP_UNUSED if tower.layout == "clip" else original.OPEN_CLIP_UNUSED
    if not tower.last:
        unused = (*unused, rf"transformer\.resblocks\.{shape.layers}\..*")
    if not tower.projected:
        unused = (*unused, "text_projection")
    return original.ours(_TABLES[tower.layout](shape), given, tower.prefix, unused)


def _tokenizers(family: Family, words: Path) -> dict[str, ClipTokenizer]:
    """One vocabulary for all; texts are filled up with marks for CLIP, with "!" for OpenCLIP."""
    pads = {"clip": "<|endoftext|>", "open_clip": "!"}
    return {
        name: ClipTokenizer.read(words).padded(pads[family.towers[tower].layout])
        for name, tower in TOWER_OF.items()
        if tower in family.towers
    }


def _scheduler(family: Family, predicts: str, *, zero_snr: bool) -> SchedulerSpec:
    """As the configurations published with these models say."""
    return SchedulerSpec(
        family.solver,
        betas="scaled_linear",
        first=0.00085,
        last=0.012,
        predicts="v" if predicts == "v" else "eps",
        spacing="leading",
        offset=1,
        ends_clean=False,
        zero_snr=zero_snr,
    )


def _number_width(shape: UNetConfig, texts: Mapping[str, ClipTextConfig], family: Family) -> int:
    if not shape.vector:
        return 256
    count = 5 if family.settings.get("requires_aesthetics_score") else 6
    return (shape.vector - texts["text_encoder_2"].projection) // count


def _notes(path: Path, family: Family, predicts: str, given: Mapping[str, Tensor]) -> tuple[str, ...]:
    guessed = family.predicts == "v" and not predicts and "v_pred" not in given
    told = (
        f"'{path}' does not say whether it predicts eps or v; v is assumed. If pictures are noise, convert "
        "it with --predicts eps.",
    )
    return told if guessed else ()
