"""Latent diffusion: words read and withheld, latents of one scale, and a first stage of its own shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.process import Karras, LinearBetas, Process
from sfumato.core.request import Generate, Images
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Dataset, Facts, Subset
from sfumato.data.shapes import Shapes
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.transformer import DiTConfig, WordsConfig
from sfumato.systems.autoencoders.kl import KL, KLConfig
from sfumato.systems.diffusion.ddpm import DDPM, DDPMConfig
from sfumato.systems.diffusion.ldm import LDM, PREVIEW_PROMPTS, LDMConfig

STAGE = AutoencoderConfig(latent_channels=3, widths=(8,), blocks=1, groups=4, patch=4, attention=False)
CONFIG = LDMConfig(
    height=24,
    width=40,
    first_stage=STAGE,
    text=WordsConfig(vocabulary=("a", "red", "blue", "circle"), length=5, width=16, depth=1, heads=2),
    network=DiTConfig(width=16, depth=1, heads=2),
    steps=3,
)


def tiny(config: LDMConfig = CONFIG) -> LDM:
    """Layers that start at zero are woken, so that all it is told shows."""
    torch.manual_seed(3)
    system = LDM(config).eval()
    for p in system.denoiser.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.2)
    return system


@pytest.fixture(scope="module")
def system() -> LDM:
    return tiny()


@torch.no_grad()
def answer(system: LDM, **request: object) -> Images:
    *_, result = system.run(Generate(**{"count": 2, "seed": 3, "prompt": "a red circle"} | request))
    assert isinstance(result, Images)
    return result


def pixels(system: LDM, **request: object) -> Tensor:
    return answer(system, **request).pixels


# --- words -------------------------------------------------------------------------------------------


def test_prompts_and_negative_prompts_change_pictures(system):
    red = pixels(system)
    assert (pixels(system, prompt="a blue circle") - red).abs().max() > 0.01
    assert (pixels(system, negative="blue") - red).abs().max() > 0.01


def test_guidance_of_one_is_no_guidance(system):
    red = pixels(system, guidance=1.0)
    assert torch.equal(pixels(system, guidance=1.0, negative="blue"), red), "there is nothing to move from"
    assert torch.allclose(pixels(system, guidance=7.0, negative="a red circle"), red, atol=1e-4)
    assert (pixels(system) - red).abs().max() > 0.01


def test_guidance_of_zero_does_not_listen(system):
    nothing = pixels(system, prompt="", guidance=1.0)
    assert torch.allclose(pixels(system, guidance=0.0), nothing, atol=1e-4)


def test_words_it_cannot_read_are_told(system):
    assert answer(system).notes == ()
    found = answer(system, prompt=("a red dog", "a red circle", "a a a a a big circle"), count=3)
    assert found.captions == ("a red dog", "a red circle", "a a a a a big circle")
    assert found.notes == (
        "1 of the words of 'a red dog' could not be read and were left out.",
        "2 of the words of 'a a a a a big circle' could not be read and were left out.",
    )
    assert len(answer(system, prompt="a red dog", count=4).notes) == 1


def test_labels_are_refused(system):
    with pytest.raises(UsageError, match="trained without labels; name the class in the prompt"):
        answer(system, label=0)


def test_clip_needs_its_tokenizer():
    with pytest.raises(UsageError, match="CLIP's text tower needs its tokenizer; open the folder"):
        LDM(replace(CONFIG, text=ClipTextConfig()))


def test_a_preview_speaks_of_shapes_only_to_who_knows_them(system):
    assert system.preview(4, 1) == Generate(count=4, seed=1, prompt="")
    knowing = LDM.fit(CONFIG, Shapes("train", 64).facts)
    assert LDM(knowing).preview(4, 1).prompt == PREVIEW_PROMPTS


# --- training ----------------------------------------------------------------------------------------


class Kinds:
    """Pictures with classes and no captions."""

    facts = Facts("kinds", 3, 24, 40, frozenset({"image", "label"}), classes=("Red_circle", "blue dog"))

    def __len__(self) -> int:
        return 6

    def batch(self, indices: Tensor) -> Mapping[str, Any]:
        return {"image": torch.zeros(len(indices), 3, 24, 40), "label": indices % 2}


def prepared(system: LDM, data: Dataset) -> Mapping[str, Any]:
    """All of a dataset as the losses get it."""
    return system.prepare(data).batch(torch.arange(len(data)))


def test_latents_of_prepared_data_have_mean_0_and_std_1():
    system = tiny()
    fields = prepared(system, Subset(Shapes("train", 64), range(30)))
    noise = torch.randn(fields["mean"].shape, generator=torch.Generator().manual_seed(0))
    z = (fields["mean"].float() + fields["std"].float() * noise - system.latent_mean) / system.latent_std
    assert z.shape == (30, 3, 16, 16)
    assert z.mean((0, 2, 3)).abs().max() < 0.03
    assert (z.std((0, 2, 3)) - 1).abs().max() < 0.03


def test_class_names_are_captions_where_there_are_none():
    system = LDM(LDM.fit(CONFIG, Kinds.facts))
    said = system.reader.tokenizers[0].decode(prepared(system, Kinds())["ids"])
    assert said == ["red circle", "blue dog"] * 3


def test_without_captions_or_classes_nothing_is_said():
    data = Kinds()
    data.facts = replace(Kinds.facts, classes=())
    system = LDM(LDM.fit(CONFIG, data.facts))
    assert system.reader.tokenizers[0].decode(prepared(system, data)["ids"]) == [""] * 6


@pytest.mark.parametrize("drop", [0.0, 0.25])
def test_captions_are_withheld_at_the_declared_rate(drop):
    system, n = tiny(replace(CONFIG, drop=drop)), 400
    ids = system.reader.tokenizers[0].encode(["a red circle"] * n)[0]
    latent = torch.zeros(n, 3, 2, 2)
    given: list[Tensor] = []
    system.text.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    list(system.losses(Batch({"mean": latent, "std": latent, "ids": ids}, Rng.training(0, 0, range(n))), 0))
    withheld = (given[0] == 0).all(1)
    assert torch.equal(given[0][~withheld], ids[~withheld])
    assert abs(withheld.float().mean().item() - drop) <= 3 * (drop * (1 - drop) / n) ** 0.5


@pytest.mark.parametrize(("step", "centre"), [(0, 1.5), (25, 1.25), (100, 0.5), (900, 0.5)])
def test_the_noise_settles(step, centre, monkeypatch):
    process, n = Process(Karras(mean=1.5, std=0.8)), 400
    system = tiny(replace(CONFIG, process=process, settled=0.5, settling=100))
    ids = system.reader.tokenizers[0].encode(["a red circle"] * n)[0]
    latent, drawn = torch.zeros(n, 3, 2, 2), []
    monkeypatch.setattr(system.denoiser, "loss", lambda z, t, *_: drawn.append(t) or z.new_zeros(()))
    batch = Batch({"mean": latent, "std": latent, "ids": ids}, Rng.training(0, step, range(n)))
    list(system.losses(batch, step))
    noise = process.schedule.sigma(drawn[0]).log()
    assert noise.mean().item() == pytest.approx(centre, abs=3 * 0.8 / n**0.5)
    assert noise.std().item() == pytest.approx(0.8, abs=0.1)


def test_noise_without_a_centre_cannot_settle():
    with pytest.raises(UsageError, match="has a centre that can settle"):
        LDM(replace(CONFIG, process=Process(LinearBetas()), settling=5))


# --- sizes -------------------------------------------------------------------------------------------


def test_pictures_need_not_be_square(system):
    assert pixels(system).shape == (2, 3, 24, 40)
    assert pixels(system, height=8, width=56, count=1).shape == (1, 3, 8, 56)


def test_sizes_that_do_not_fold_are_refused(system):
    with pytest.raises(UsageError, match="must be multiples of 8, got 28 x 40; choose another size"):
        pixels(system, height=28)
    with pytest.raises(UsageError, match="must be multiples of 8, got 24 x 41"):
        pixels(system, width=41)
    with pytest.raises(UsageError, match="must be multiples of 8, got 36 x 36"):
        LDM.fit(CONFIG, Facts("odd", 3, 36, 36, frozenset({"image"})))


# --- the first stage ---------------------------------------------------------------------------------


def test_it_adopts_a_first_stage_of_its_own_shape_alone():
    system, base = tiny(), KL(KLConfig(STAGE))
    system.adopt(base)
    for name, tensor in base.network.state_dict().items():
        assert torch.equal(system.first_stage.state_dict()[name], tensor), name
    other = KL(KLConfig(replace(STAGE, latent_channels=4)))
    for wrong, name in ((other, "KL"), (DDPM(DDPMConfig()), "DDPM")):
        with pytest.raises(DataError, match=f"needs a trained first stage of its own shape, got a {name} "):
            system.adopt(wrong)


def test_what_diffusers_cannot_hold_is_not_exported(system, tmp_path):
    with pytest.raises(UsageError, match="it cannot be exported"):
        system.to_diffusers(tmp_path)
