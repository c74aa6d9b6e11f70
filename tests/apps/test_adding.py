"""Public models on the command line: what is laid beside them, what is drawn inside a mask, and again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sfumato.apps.cli import main
from sfumato.apps.generate import Options, styled
from sfumato.apps.load import load
from sfumato.core.generate import Generate
from sfumato.errors import UsageError
from sfumato.images import read_settings, save_png, to_pil, to_tensor
from tests.compat.folders import inpainting, refiner, sdxl, stable_diffusion, upscaler

from .toy import Toy, ToyConfig

SMALL = ("--steps", 2, "--precision", "fp32", "--device", "cpu", "-q")


@pytest.fixture(scope="module")
def top(tmp_path_factory) -> Path:
    """Folders of all kinds, a LoRA and a word for the first."""
    top = tmp_path_factory.mktemp("public")
    stable_diffusion(top / "sd", 2)
    generator = torch.Generator().manual_seed(1)
    weights = load_file(top / "sd" / "unet" / "diffusion_pytorch_model.safetensors")
    tensors = {}
    for name, weight in weights.items():
        if name.endswith(("to_k.weight", "to_v.weight")):
            module = f"unet.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = torch.randn(2, weight.shape[1], generator=generator)
            tensors[f"{module}.lora_B.weight"] = torch.randn(weight.shape[0], 2, generator=generator)
    save_file(tensors, top / "style.safetensors")
    save_file({"<thing>": torch.randn(36, generator=generator) * 3}, top / "thing.safetensors")
    return top


@pytest.fixture
def run(tmp_path, capsys):
    """The pictures that a command writes, without sheets and grids."""

    def run(*args, out="out"):
        assert main([str(a) for a in (*args, "--out", tmp_path / out, *SMALL)]) == 0
        paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
        return [path for path in paths if path.stem not in ("grid", "sheet")]

    return run


def pixels(path: Path) -> torch.Tensor:
    return to_tensor(Image.open(path))


def apart(a: Path, b: Path) -> float:
    return (pixels(a) - pixels(b)).abs().max().item()


def test_what_lies_beside_a_model_is_merged_told_and_made_again(top, run):
    ask = ("generate", "a red <thing>", "--model", top / "sd", "--count", 2, "--seed", 3)
    plain = run(*ask)
    lora, word = f"{top / 'style.safetensors'}:0.5", str(top / "thing.safetensors")
    styled = run(*ask, "--lora", lora, out="lora")
    thing = run(*ask, "--embedding", word, out="word")
    both = run(*ask, "--lora", lora, "--embedding", word, "--tile", out="both")
    for i, one in enumerate((plain, styled, thing, both)):
        assert all(apart(one[1], other[1]) > 0.05 for other in (plain, styled, thing, both)[i + 1 :])
    told = read_settings(both[1])
    assert (told["lora"], told["embedding"], told["tile"], told["seed"]) == ([lora], [word], True, 4)
    [again] = run("generate", "--from", both[1], out="again")
    assert apart(again, both[1]) <= 1.5 / 127.5, "alone it was made in a batch of another size"
    assert apart(run(*ask, out="plain")[1], plain[1]) == 0


def test_a_refiner_finishes(top, run):
    sdxl(top / "xl")
    refiner(top / "fine")
    ask = ("generate", "a red circle", "--model", top / "xl", "--count", 1, "--seed", 3, "--solver", "ddim")
    [plain] = run(*ask)
    [fine] = run(*ask, "--refiner", top / "fine", "--refine-at", 0.3, "--aesthetic", 7, out="fine")
    assert apart(plain, fine) > 0.05
    told = read_settings(fine)
    assert (told["refiner"], told["refine_at"], told["aesthetic"]) == (str(top / "fine"), 0.3, 7.0)
    [again] = run("generate", "--from", fine, out="again")
    assert again.read_bytes() == fine.read_bytes()


def test_no_joins_what_to_avoid(top, run):
    ask = ("generate", "a red circle", "--model", top / "sd", "--count", 1)
    [a] = run(*ask, "--no", "blue", "--negative", "stars")
    assert read_settings(a)["negative"] == "stars, blue"
    [b] = run(*ask, "--negative", "stars, blue", out="b")
    assert apart(a, b) == 0


def test_stylize_divides_guidance_and_asks_for_beauty(top):
    system = load(top / "sd", precision="fp32", device="cpu")
    for stylize, guidance in [(100, 7.5), (400, 4.25), (0, 1 + 6.5 * 2 ** (1 / 3))]:
        request = styled(Generate(), stylize, system)
        assert request.guidance == pytest.approx(guidance)
        assert request.aesthetic is None
    fine = load(refiner(top / "beauty"), precision="fp32", device="cpu")
    assert styled(Generate(), 1000, fine).aesthetic == pytest.approx(9)


def test_stylize_is_refused_where_it_means_nothing(top):
    system = load(top / "sd", precision="fp32", device="cpu")
    with pytest.raises(UsageError, match="--stylize must be from 0 to 1000, got 1001"):
        styled(Generate(), 1001, system)
    with pytest.raises(UsageError, match="and so does --guidance; give one"):
        styled(Generate(guidance=3.0), 100, system)
    with pytest.raises(UsageError, match="Toy is not guided, so it has no style; leave --stylize out"):
        styled(Generate(), 100, Toy(ToyConfig()))


def test_painting_inside_a_mask(top, run):
    folder = inpainting(top / "inpaint")
    photo, mask = top / "photo.png", top / "mask.png"
    image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(2)) * 2 - 1
    save_png(to_pil(image), photo)
    inside = torch.zeros(1, 40, 56)
    inside[:, 8:30, 10:40] = 1
    save_png(to_pil(inside * 2 - 1), mask)
    [made] = run("edit", "a red circle", photo, "--mask", mask, "--model", folder)
    where = inside.bool().expand(3, -1, -1)
    change = (pixels(made) - pixels(photo)).abs()
    assert change[~where].max() == 0
    assert change[where].max() > 0.2
    assert read_settings(made)["task"] == "edit"


def test_enlarging_with_words(top, run):
    folder = upscaler(top / "x4")
    photo = top / "small.png"
    save_png(to_pil(torch.rand(3, 12, 20, generator=torch.Generator().manual_seed(2)) * 2 - 1), photo)
    [a] = run("upscale", photo, "--prompt", "a red circle", "--noise", 7, "--model", folder)
    [b] = run("upscale", photo, "--prompt", "stars", "--noise", 7, "--model", folder, out="b")
    assert pixels(a).shape == (3, 48, 80)
    assert apart(a, b) > 0.02
    assert (read_settings(a)["prompt"], read_settings(a)["noise"]) == ("a red circle", 7)


def test_varying_a_picture_of_a_public_model(top, run):
    [first] = run("generate", "a red circle", "--model", top / "sd", "--count", 1)
    many = run("vary", first, "--count", 2, "--strength", 0.5, out="v")
    assert len(many) == 2
    assert apart(many[0], many[1]) > 0.02
    assert {read_settings(path)["prompt"] for path in many} == {"a red circle"}


def complaint(capsys, *args) -> str:
    assert main([str(arg) for arg in args]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_done_is_told(top, capsys):
    model = ("--model", top / "sd", "-q", "--steps", 1)
    assert "There is no file 'none.safetensors'" in complaint(
        capsys, "generate", "a", *model, "--lora", "none.safetensors:0.5"
    )
    shipped = complaint(capsys, "generate", "a red circle", "--tile", "-q")
    assert "A diffusion transformer knows where its edges are" in shipped
    assert "LDM cannot upscale; what it can: generate, vary" in complaint(
        capsys, "upscale", top / "style.safetensors", "--model", top / "sd"
    )
    assert Options().added() == {}
