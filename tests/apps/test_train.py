"""Training from the command line: the plan, the pictures, the card, signals, and going on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

import sfumato
from sfumato.apps.cli import main, split
from sfumato.apps.plan import new
from sfumato.apps.settings import leaves, override
from sfumato.apps.talk import Talk
from sfumato.apps.train import Options, share, stopping_on_signals
from sfumato.apps.watch import due
from sfumato.core.checkpoint import RunFolder
from sfumato.core.trainer import Trainer
from sfumato.errors import DataError, UsageError
from sfumato.images import save_png, to_pil
from sfumato.systems.diffusion.edm import EDMConfig
from tests.apps.conftest import TINY


def test_a_finished_run_has_all_its_files(run):
    names = {
        "config.json",
        "model.safetensors",
        "README.md",
        "env.json",
        "log.jsonl",
        "samples",
        "checkpoints",
    }
    assert names <= {path.name for path in run.iterdir()}
    assert [path.name for path in sorted((run / "samples").iterdir())] == ["000001.png", "000002.png"]
    assert main(["verify", str(run), "--json"]) == 0


def test_the_card_is_what_hugging_face_reads_and_names_the_exact_command(run):
    card = (run / "README.md").read_text()
    front = card.split("---")[1]
    assert "license: apache-2.0" in front
    assert "library_name: sfumato" in front
    command = "sfumato train ddpm digits-by-label --data digits --size 8 --steps 2 --batch 8 --seed 0 "
    assert command + f"--network.widths 16 32 --precision fp32 --out {run}" in card
    assert "![Pictures at the end of training](samples/000002.png)" in card


def test_going_on_with_a_finished_run_keeps_its_card(run, tmp_path):
    own = shutil.copytree(run, tmp_path / "a run")
    (own / "README.md").write_text("with figures")
    assert main(["train", "--resume", "--out", str(own), "--quiet"]) == 0
    assert (own / "README.md").read_text() == "with figures"
    (own / "README.md").unlink()
    assert main(["train", "--resume", "--out", str(own), "--quiet"]) == 0
    assert f"sfumato generate --model '{own}'\n" in (own / "README.md").read_text()


def test_a_finished_run_goes_on_to_more_steps(run, tmp_path, capsys):
    own = shutil.copytree(run, tmp_path / "longer")
    assert main(["train", "--resume", "--out", str(own), "--steps", "4"]) == 0
    assert "continuing, not bit-exact: steps 2 -> 4" in capsys.readouterr().err
    assert RunFolder.open(own).newest().step == RunFolder.open(own).recipe.train.steps == 4
    assert "--steps 4 " in (own / "README.md").read_text()
    assert main(["verify", str(own), "--json"]) == 0
    assert main(["train", "--resume", "--out", str(own), "--steps", "3"]) == 2
    assert "has taken 4 steps already; give more than that" in capsys.readouterr().err
    assert RunFolder.open(own).recipe.train.steps == 4


def test_the_plan_comes_first(tmp_path, capsys):
    out = str(tmp_path / "run")
    args = [
        "train",
        "ddpm",
        "digits",
        "--out",
        out,
        "--steps",
        "1",
        "--batch",
        "8",
        "--network.widths",
        "16",
        "32",
    ]
    assert main(args) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    for words in ("ddpm, preset digits", "1,200 examples", "denoiser", "1 of 8 pictures", "MB", "finished:"):
        assert words in said.err
    assert main(args) == 2
    assert "already holds a run; go on with --resume, or choose another --out" in capsys.readouterr().err


def test_json_gives_one_line_a_logged_step(tmp_path, capsys):
    out = str(tmp_path / "run")
    assert (
        main(["train", "ddpm", "digits", "--out", out, "--steps", "3", "--log-every", "1", "--json", *TINY])
        == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("step") for line in lines] == [1, 2, 3, None]
    assert {"images_per_second", "waiting", "denoiser/mse"} <= lines[0].keys()
    assert lines[-1] == {"run": out, "state": "finished"}


def test_tensorboard_gets_curves(tmp_path):
    out = tmp_path / "run"
    assert main(["train", "ddpm", "digits", "--out", str(out), "--steps", "1", "--tensorboard", *TINY]) == 0
    assert list((out / "tensorboard").glob("events.*"))


def test_a_killed_run_goes_on_and_a_running_one_is_locked(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "ddpm", "digits", "--out", str(out), "--steps", "100000", "--log-every", "1", *TINY]
    process = subprocess.Popen([sys.executable, "-m", "sfumato", *command], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(out / "samples" / "000001.png", process)
        assert main(["train", "--resume", "--out", str(out)]) == 75
        assert f"in use by pid {process.pid}" in capsys.readouterr().err
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    finally:
        process.kill()
        process.stderr.close()
    newest = RunFolder.open(out).newest()
    assert newest is not None
    told = json.loads((out / "config.json").read_text())
    told["train"]["steps"] = newest.step + 2
    (out / "config.json").write_text(json.dumps(told))
    assert main(["train", "--resume", "--out", str(out), "-q"]) == 0
    steps = [record["step"] for record in RunFolder.open(out).records()]
    assert steps == list(range(1, newest.step + 3))


def wait_for(path, process) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_first_signal_asks_and_the_second_ends_at_once(run):
    plan = new("ddpm", "digits-by-label", run, settings=["--network.widths", "16", "32"])
    trainer = Trainer(plan.build(), plan.data, plan.train)
    before = signal.getsignal(signal.SIGINT)
    with stopping_on_signals(trainer, Talk(quiet=True)) as came:
        signal.raise_signal(signal.SIGINT)
        assert trainer.stopping
        assert came == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_system_with_a_first_stage_trains_it_first(tmp_path, capsys):
    out = tmp_path / "run"
    settings = {"network.width": 16, "network.depth": 1, "network.heads": 2}
    plan = new("ldm", "shapes", out, data="digits", size=8)
    assert plan.first_stage().recipe.system == "kl"
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    folder = tmp_path / "pictures"
    assert main(["data", "shapes", "--size", "16", "--out", str(tmp_path / "sheet.png")]) == 0
    folder.mkdir()
    (tmp_path / "sheet.png").rename(folder / "a.png")
    (folder / "a.txt").write_text("many shapes")
    args = [
        "train",
        "ldm",
        "laptop",
        "--data",
        str(folder),
        "--size",
        "16",
        "--out",
        str(out),
        "--steps",
        "1",
    ]
    assert main([*args, "--base-steps", "1", "--batch", "4", "-q", *words]) == 0
    assert (out / "first_stage" / "model.safetensors").exists()
    assert (
        main(["generate", "many shapes", "--model", str(out), "--steps", "2", "--out", str(tmp_path / "g")])
        == 0
    )
    capsys.readouterr()
    assert main(["cite", str(out)]) == 0
    assert "rombach2022high" in capsys.readouterr().out
    stage = str(out / "first_stage")
    assert main(["evaluate", stage, "--data", "shapes", "--count", "10", "-q"]) == 0
    assert "Nearest-neighbour ratio" in capsys.readouterr().out
    other = [
        "train",
        "ldm",
        "laptop",
        "--data",
        str(folder),
        "--size",
        "16",
        "--steps",
        "1",
        "--batch",
        "4",
        "-q",
    ]
    base = ["--base", stage, "--out", str(tmp_path / "other")]
    assert main([*other, *base, *words]) == 0
    assert not (tmp_path / "other" / "first_stage").exists()


def test_as_a_function_it_returns_the_system(tmp_path):
    settings = {"network.widths": (16, 32)}
    system = sfumato.train("ddpm", "digits", out=tmp_path / "a", steps=1, settings=settings, quiet=True)
    assert system.config.network.widths == (16, 32)
    assert not system.training
    with pytest.raises(
        UsageError, match="already holds a run; go on with resume=True, or choose another out"
    ):
        sfumato.train("ddpm", "digits", out=tmp_path / "a", steps=3)
    with pytest.raises(UsageError, match="keeps its own settings; leave out batch"):
        sfumato.train(out=tmp_path / "a", batch=3, resume=True)
    with pytest.raises(UsageError, match="A setting of train ddpm digits has a value that it cannot have"):
        sfumato.train("ddpm", "digits", out=tmp_path / "b", settings={"network.widths": "x"})


@pytest.mark.parametrize("wrong", [("--base", "fashion-vae"), ("--batch", "4", "--accumulate", "3")])
def test_a_training_that_took_no_step_is_in_nobody_s_way(wrong, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("stays")
    args = ["train", "ddpm", "digits", "--out", str(tmp_path), "--steps", "1", *TINY]
    assert main([*args, *wrong]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert main(args) == 0


def test_what_cannot_be_cut_is_told_before_the_first_stage(tmp_path, capsys):
    args = [
        "train",
        "ldm",
        "shapes",
        "--steps",
        "1",
        "--base-steps",
        "1",
        "--batch",
        "4",
        "--accumulate",
        "3",
    ]
    assert main([*args, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "A batch of 4 cannot be cut into" in said
    assert "First stage" not in said
    assert not (tmp_path / "run").exists()


def test_a_missing_base_is_an_error(tmp_path, capsys):
    args = ["train", "ldm", "shapes", "--out", str(tmp_path / "x"), "--base"]
    with pytest.raises(UsageError, match=r"There is no model or folder '.*none'"):
        raise_from([*args, str(tmp_path / "none")])
    with pytest.raises(DataError, match="holds no finished run"):
        raise_from([*args, str(tmp_path)])


def raise_from(args: list[str]) -> None:
    main([*args, "-v"])


def test_settings_reach_every_depth():
    config = sfumato.registry.find("ddpm", sfumato.SYSTEMS, "system").presets["digits"].config
    changed = override(
        config, ["--network.dropout", "0.3", "--optim.lr=0.5", "--drop", "0.2"], "train ddpm digits"
    )
    assert (changed.network.dropout, changed.optim.lr, changed.drop) == (0.3, 0.5, 0.2)
    assert leaves(changed) | {"network.dropout": 0, "optim.lr": 0, "drop": 0} == leaves(config) | {
        "network.dropout": 0,
        "optim.lr": 0,
        "drop": 0,
    }
    with pytest.raises(UsageError, match=r"is no setting of train ddpm digits; did you mean '--optim\.lr'"):
        override(config, ["--optim.lrr", "3"], "train ddpm digits")


def test_arguments_are_parted_into_ours_and_the_system_s():
    args = ["ddpm", "digits", "--optim.lr", "-3", "--steps", "5", "--network.widths", "1", "2", "-q"]
    mine, settings = split(args, Options)
    assert mine == ["ddpm", "digits", "--steps", "5", "-q"]
    assert settings == ["--optim.lr", "-3", "--network.widths", "1", "2"]


def test_help_shows_the_settings_of_the_system(capsys):
    assert main(["train", "ddpm", "digits", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--network.widths" in out
    assert "--resume" in out


def test_pictures_come_at_growing_intervals():
    assert [step for step in range(1, 600) if due(step)] == [1, 2, 5, 10, 20, 50, 100, 200, 500]


def picture(i: int) -> Image.Image:
    return to_pil(torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(i)))


@pytest.fixture
def half_broken(tmp_path):
    """A folder of six pictures, one of which is no picture, and one of which ends too early."""
    folder = tmp_path / "photos"
    for i in range(6):
        save_png(picture(i), folder / f"{i}.png")
    (folder / "0.png").write_bytes(b"nothing")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:200])
    return folder


def test_unreadable_pictures_are_named_in_the_run_and_a_limit_can_be_set(half_broken, tmp_path, capsys):
    out = tmp_path / "run"
    args = ["train", "ddpm", "laptop", "--data", str(half_broken), "--size", "8", "--out", str(out), "-q"]
    args += ["--steps", "2", "--batch", "6", "--network.widths", "16", "32", "64", "--previews", "0"]
    assert main(args) == 65
    assert "1 of 6 pictures in" in capsys.readouterr().err
    assert main([*args, "--max-bad", "40%"]) == 0
    assert "2 pictures cannot be read" in capsys.readouterr().err
    told = [json.loads(line) for line in (out / "bad_files.jsonl").read_text().splitlines()]
    assert [item["file"] for item in told] == ["0.png", "1.png"]
    assert "it is none of PNG" in told[0]["reason"]
    config = json.loads((out / "config.json").read_text())
    config["train"]["steps"] = 3
    (out / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", "--out", str(out), "-q"]) == 65
    assert main(["train", "--resume", "--out", str(out), "-q", "--max-bad", "0.4", "--previews", "0"]) == 0

    whole = tmp_path / "whole"
    for i in range(12):
        save_png(picture(i), whole / f"{i}.png")
    capsys.readouterr()
    asked = ["--count", "12", "--steps", "2", "--solver", "ddim", "--data", str(whole), "-q"]
    assert main(["evaluate", str(out), *asked]) == 0
    assert "is not divided into train and test, so the pictures compared with" in capsys.readouterr().err


def test_a_limit_is_a_share():
    assert (share("0%"), share("12.5%"), share("1")) == (0.0, 0.125, 1.0)
    for wrong in ("120%", "-0.1", "some"):
        with pytest.raises(UsageError, match=r"--max-bad is a share such as 10% or 0.1, got"):
            share(wrong)


def test_what_is_true_can_be_made_false():
    assert override(EDMConfig(clip=True), ["--no-clip"], "train edm digits") == EDMConfig(clip=False)
    with pytest.raises(
        UsageError, match="'--no-clop' is no setting of train edm digits; did you mean '--no-clip'"
    ):
        override(EDMConfig(clip=True), ["--no-clop"], "train edm digits")
