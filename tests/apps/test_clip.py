"""The verb ``clip``: scores, labels and searches are the system's own, over files and folders with faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sfumato
from sfumato.apps.cli import main
from sfumato.apps.clip_search import Index
from sfumato.apps.load import load
from sfumato.data.shapes import Shapes
from sfumato.images import cover, open_image, read_settings, save_png, to_pil, to_tensor

TINY = ("--steps", "1", "--batch", "4", "--precision", "fp32", "--previews", "0", "--quiet")
FAST = ("--precision", "fp32", "--device", "cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A CLIP after one step: it knows nothing, but answers."""
    out = tmp_path_factory.mktemp("runs") / "clip"
    small = ("--network.vision.layers", "1", "--network.text.layers", "1")
    assert main(["train", "clip", "laptop", "--out", str(out), *TINY, *small]) == 0
    return out


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures of several sizes, one in a subfolder, and two files that are none."""
    batch = Shapes("test", 64, length=5).batch(torch.arange(5))["image"]
    names = ("a.png", "b.png", "deep/c.png", "d.png", "e.png")
    for i, (name, pixels) in enumerate(zip(names, batch, strict=True)):
        save_png(to_pil(pixels[:, : 64 - 7 * i]), tmp_path / "pics" / name)
    (tmp_path / "pics" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "pics" / "empty.jpg").write_bytes(b"")
    return tmp_path / "pics"


def clip(capsys, *words: object) -> tuple[dict, str]:
    assert main(["clip", *map(str, words), *FAST, "--json"]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


@torch.no_grad()
def cosines(
    run: Path, files: list[Path], texts: list[str], templates: tuple[str, ...] = ("{}",)
) -> torch.Tensor:
    model = load(run, precision="fp32", device="cpu")
    pixels = [model.encode_images(to_tensor(cover(open_image(file), 64, 64))[None])[0] for file in files]
    return torch.stack(pixels) @ model.encode_labels(texts, templates).T


def test_scores_are_a_hundred_times_the_cosines(run, folder, capsys):
    texts = ["a red circle", "a blue star", "nothing at all"]
    files = [folder / "a.png", folder / "deep" / "c.png"]
    told, _ = clip(capsys, "score", *files, "--text", *texts, "--model", run)
    want = 100 * cosines(run, files, texts).clamp(min=0)
    assert [Path(one["file"]) for one in told["pictures"]] == files
    found = torch.tensor([[one["scores"][text] for text in texts] for one in told["pictures"]])
    torch.testing.assert_close(found, want, atol=1e-3, rtol=0)
    assert main(["clip", "score", *map(str, files), "--text", *texts, "--model", str(run), *FAST]) == 0
    table = capsys.readouterr().out
    assert f"{want[0, 0]:.1f}" in table
    assert "a blue star" in table


def test_a_label_is_chosen_with_the_models_own_sentences_or_those_given(run, folder, capsys):
    labels, files = ["circle", "star", "ring"], [folder / "a.png", folder / "b.png"]
    model = load(run, precision="fp32", device="cpu")
    for more, templates in (((), model.templates), (("--templates", "one {}"), ("one {}",))):
        told, _ = clip(capsys, "classify", *files, "--labels", *labels, *more, "--model", run)
        scores = cosines(run, files, labels, templates)
        shares = (scores * model.scale.item()).softmax(1)
        for one, row, share in zip(told["pictures"], scores, shares, strict=True):
            assert one["label"] == labels[int(row.argmax())]
            assert sum(one["shares"].values()) == pytest.approx(1)
            assert one["shares"][labels[1]] == pytest.approx(share[1].item(), abs=1e-4)


def test_pictures_that_cannot_be_read_are_named_and_left_out(run, folder, capsys):
    told, err = clip(capsys, "classify", folder, "--labels", "circle", "star", "--model", run)
    assert {Path(one["file"]).name for one in told["pictures"]} == {f"{name}.png" for name in "abcde"}
    assert len(told["notes"]) == 2
    assert "broken.png" in err
    assert "empty.jpg" in err
    assert main(["clip", "score", str(folder / "broken.png"), "--text", "a", "--model", str(run)]) == 65
    assert "Cannot read picture" in capsys.readouterr().err


def test_a_search_finds_the_best_and_looks_at_each_picture_once(run, folder, tmp_path, capsys):
    out = ("--out", tmp_path / "out", "--model", run, "--top", 3)
    told, _ = clip(capsys, "search", folder, "a blue square", *out)
    files = sorted(p for p in folder.rglob("*.png") if p.name != "broken.png")
    want = cosines(run, files, ["a blue square"])[:, 0]
    best = [files[i] for i in want.argsort(descending=True)[:3].tolist()]
    assert [Path(hit["file"]) for hit in told["hits"]] == best
    assert told["hits"][0]["cosine"] == pytest.approx(want.max().item(), abs=1e-5)
    assert (told["searched"], told["new"], len(told["notes"])) == (5, 5, 2)
    sheet, index = map(Path, told["files"])
    assert read_settings(sheet)["hits"] == [str(file) for file in best]
    assert open_image(sheet).width > 3 * 192

    again, _ = clip(capsys, "search", folder, "a red ring", *out)
    assert (again["searched"], again["new"]) == (5, 0)
    assert Path(again["files"][1]) == index
    save_png(to_pil(torch.zeros(3, 64, 64)), folder / "a.png")
    (folder / "b.png").unlink()
    third, _ = clip(capsys, "search", folder, "a red ring", *out)
    assert (third["searched"], third["new"]) == (4, 1)


def test_an_index_of_another_model_or_a_damaged_one_is_made_anew(tmp_path):
    path, vectors = tmp_path / "index.safetensors", {"a": torch.ones(3), "b": torch.zeros(3)}
    state = {"a": (1, 2), "b": (3, 4)}
    Index("model", vectors, state).write(path)
    kept = Index.read(path, "model")
    assert kept.state == state
    assert torch.equal(kept.vectors["b"], torch.zeros(3))
    assert not Index.read(path, "another").vectors
    path.write_bytes(path.read_bytes()[:-9])
    assert not Index.read(path, "model").vectors
    assert not Index.read(tmp_path / "nowhere", "model").vectors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("score", "x.png"), "Say it with --text"),
        (("score", "x.png", "--labels", "a", "b"), "clip score takes words by --text"),
        (("classify", "x.png", "--labels", "a"), "Give two or more with --labels"),
        (("classify", "x.png", "--text", "a"), "clip classify takes words by --labels"),
        (("search", "x.png"), "Search where, and for what?"),
        (("search", ".", "a", "--text", "b"), "clip search takes words after the folder"),
        (("search", ".", "a", "--top", "0"), "--top must be at least 1, got 0"),
        (("score", "x.png", "--text", "a", "--prior", "p"), "only a search imagines pictures"),
    ],
)
def test_what_makes_no_sense_is_refused(words, message, capsys):
    assert main(["clip", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_search_may_follow_what_a_prior_imagines(run, folder, tmp_path, capsys):
    layers, out, own = "network.{}.layers", tmp_path / "prior", tmp_path / "own"
    small = [word for tower in ("vision", "text") for word in (layers.format(tower), "1")]
    data = ["--data", str(captioned(tmp_path / "captioned")), *TINY]
    prior = [f"--clip.{word}" if word != "1" else word for word in small] + ["--network.layers", "1"]
    train = ["train", "prior", "laptop", "--out", str(out), *data, *prior]
    assert main([*train, "--base", str(run)]) == 65, "a CLIP of other words"
    assert "needs a trained CLIP of its own shape" in capsys.readouterr().err
    own_words = [f"--{word}" if word != "1" else word for word in small]
    assert main(["train", "clip", "laptop", "--out", str(own), *data, *own_words]) == 0
    assert main([*train[:4], str(out) + "2", *train[5:], "--base", str(own)]) == 0
    out = Path(str(out) + "2")
    capsys.readouterr()
    where = ("--out", tmp_path / "out", "--top", 5)
    told, _ = clip(capsys, "search", folder, "a red circle", *where, "--model", own, "--prior", out)
    plain, _ = clip(capsys, "search", folder, "a red circle", *where, "--model", own)
    assert [hit["cosine"] for hit in told["hits"]] != [hit["cosine"] for hit in plain["hits"]]
    prior = load(out, precision="fp32", device="cpu")
    with torch.no_grad():
        *_, found = prior.run(sfumato.Imagine(count=1, prompt="a red circle"))
        best = prior.clip.encode_images(to_tensor(cover(open_image(told["hits"][0]["file"]), 64, 64))[None])
    assert told["hits"][0]["cosine"] == pytest.approx(float(found.vectors[0] @ best[0]), abs=1e-4)

    wrong = ((run, out, "was trained on another CLIP"), (own, own, "is a CLIP, no prior"))
    for model, other, message in wrong:
        words = ["clip", "search", str(folder), "a", "--model", str(model), "--prior", str(other), *FAST]
        assert main([*words, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err


def captioned(folder: Path) -> Path:
    """Eight pictures with captions beside them."""
    batch = Shapes("train", 64, length=8).batch(torch.arange(8))
    for i, (pixels, caption) in enumerate(zip(batch["image"], batch["caption"], strict=True)):
        save_png(to_pil(pixels), folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(caption)
    return folder


def test_evaluate_tells_what_it_finds(run, tmp_path, capsys):
    words = ["evaluate", str(run), "--count", "128", "--out", str(tmp_path / "out"), *FAST, "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"][0]["metric"] == "R@1 of 128, picture to caption"
    assert told["rows"][0]["value"] < 0.2, "one step teaches little"
    kept = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (kept["rows"], kept["asked"]["count"]) == (told["rows"], 128)
    assert "sfumato clip search ./pictures" in (run / "README.md").read_text()


def test_it_can_be_asked_from_python(run):
    images = Shapes("test", 64, length=3).batch(torch.arange(3))["image"]
    asked = sfumato.Score(count=3, images=images, texts=("a red circle", "a star"))
    answer = sfumato.ask(asked, run, precision="fp32", device="cpu", quiet=True)
    assert isinstance(answer, sfumato.Ranking)
    assert answer.scores.shape == (3, 2)
