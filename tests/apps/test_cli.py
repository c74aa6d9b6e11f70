"""Verbs are found, errors become one line and an exit code, and help does not load torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import sfumato
from sfumato.apps.cli import main
from sfumato.apps.verbs import VERBS
from sfumato.core import request
from sfumato.registry import SYSTEMS

LIGHT = """
import contextlib, io, sys
from sfumato.apps.cli import main
out = io.StringIO()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    for args in {commands}:
        assert main(args) == 0, (args, out.getvalue())
print(sorted({{"torch", "numpy", "PIL"}} & sys.modules.keys()))
"""


def test_help_list_describe_cite_and_doctor_load_neither_torch_nor_numpy():
    commands = [[verb, "--help"] for verb in VERBS]
    commands += [[], ["--help"], ["--version"], ["list"], ["describe", "ddpm"], ["cite", "ldm"], ["doctor"]]
    code = LIGHT.format(commands=commands)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "[]", answer.stderr


@pytest.mark.parametrize("args", [["--help"], ["list"], ["describe", "ddpm"]])
def test_the_first_line_comes_at_once(args):
    assert min(seconds([sys.executable, "-m", "sfumato", *args]) for _ in range(3)) < 0.3


def test_importing_sfumato_is_light():
    bare = min(seconds([sys.executable, "-c", "pass"]) for _ in range(3))
    ours = min(seconds([sys.executable, "-c", "import sfumato"]) for _ in range(3))
    assert ours - bare < 0.1


def seconds(command: list[str]) -> float:
    """Processor time of a command: what a quiet machine would take."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def test_alone_it_gives_a_tour(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 12
    assert 'sfumato generate "a red circle above a blue square"' in out


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["help", "genrate"], 2, "no command 'genrate'; did you mean 'generate'?"),
        (["genrate"], 2, "no command 'genrate'; did you mean 'generate'?"),
        (["describe", "ddmp"], 2, "Nothing here is called 'ddmp'; did you mean 'ddpm'?"),
        (["train", "ddmp"], 2, "Unknown system 'ddmp'; did you mean 'ddpm'?"),
        (["train", "ddpm", "digts"], 2, "no preset 'digts'; did you mean 'digits'?"),
        (["train"], 2, "Give a system"),
        (["train", "ddpm", "digits", "--network.widhts", "3"], 2, "did you mean '--network.widths'?"),
        (["train", "ddpm", "digits", "--stpes", "3"], 2, "did you mean '--steps'?"),
        (["train", "ddpm", "digits", "--network.patch", "x"], 2, "invalid literal for int()"),
        (["train", "ddpm", "cifar10"], 2, "say where they are with --data DIR"),
        (["train", "ddpm", "digits", "--data", "digts"], 2, "did you mean 'digits'?"),
        (["train", "--resume"], 2, "say which with --out RUN"),
        (["train", "ddpm", "--resume", "--out", "x"], 2, "keeps its own settings; leave out '--system'"),
        (["train", "--resume", "--batch", "9", "--out", "x"], 2, "leave out '--batch'"),
        (["train", "ddpm", "digits", "--steps", "0", "--out", "x"], 2, "steps must be at least 1, got 0"),
        (["train", "ddpm", "digits", "--save-every", "0", "--out", "x"], 2, "save_every must be at least 1"),
        (["train", "ddpm", "digits", "--seed", "-1", "--out", "x"], 2, "seed must be at least 0, got -1"),
        (["train", "ddpm", "digits", "--size", "0", "--out", "x"], 2, "pixels, not 0; give --size 8 or more"),
        (
            ["train", "ddpm", "digits", "--base-steps", "0", "--out", "x"],
            2,
            "--base-steps must be at least 1",
        ),
        (["train", "--resume", "--out", "no/such/run"], 65, "'no/such/run' holds no run"),
        (["generate", "--cuont", "3"], 2, "--count"),
        (["generate", "a", "--model", "no/such/run"], 2, "There is no model or folder 'no/such/run'"),
        (["verify", "no/such/run"], 2, "There is no model or folder"),
        (["cite", "ldn"], 2, "did you mean 'ldm'?"),
        (["data", "shaeps"], 2, "did you mean 'shapes'?"),
        (
            ["data", "digits", "--out", "x.txt"],
            2,
            "--out must end in .png, or for a page in .html, got 'x.txt'",
        ),
        (["data", "digits", "--count", "0"], 2, "--count must be at least 1, got 0"),
        (["completion", "tcsh"], 2, "fish"),
        (["convert", __file__, "x"], 2, "is no weight file; give a .safetensors or a .ckpt file"),
        (["convert", "x", __file__], 2, "is there already; choose another name"),
        (["export", "shapes", __file__], 2, "is there already; choose another name"),
        (["demo", "--out", __file__], 74, f"'{__file__}' is a file; choose another folder"),
    ],
)
def test_misuse_is_told_in_words_with_its_exit_code(args, code, words, capsys):
    assert main(args) == code
    said = capsys.readouterr()
    assert words in " ".join(said.err.split())
    assert said.out == ""
    assert "Traceback" not in said.err


def test_where_an_error_arose_is_shown_when_asked_for(monkeypatch):
    with pytest.raises(sfumato.errors.UsageError):
        main(["describe", "ddmp", "-v"])
    monkeypatch.setenv("SFUMATO_DEBUG", "1")
    with pytest.raises(sfumato.errors.UsageError):
        main(["genrate"])


@pytest.mark.parametrize("verb", [["generate"], ["walk"], ["stylize", __file__, "--style", __file__]])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_made(verb, run, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    model = [] if verb[0] == "stylize" else ["--model", str(run)]
    assert main([*verb, *model, "--steps", "2", "--out", str(tmp_path / "file" / "x")]) == 74
    said = capsys.readouterr().err
    assert f"'{tmp_path / 'file'}' is a file; choose another folder" in said
    assert "generating" not in said


def test_full_memory_is_told_in_words(monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("sfumato.apps.listing.main", lambda _: torch.empty(2**60, dtype=torch.uint8))
    assert main(["list"]) == 1
    assert "Memory is full; ask for smaller or fewer pictures" in capsys.readouterr().err
    monkeypatch.setattr("sfumato.apps.listing.main", lambda _: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        main(["list"])


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_argument_by_what_it_is(verb, capsys):
    assert main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert main(["help", verb]) == 0
    assert capsys.readouterr().out == said
    usage = said.splitlines()[0]
    assert not {"STR", "PATH"} & set(usage.replace("[", " ").replace("]", " ").partition("--")[0].split())
    assert usage.startswith(f"usage: sfumato {verb} ")


def test_list_is_a_table_for_people_and_an_object_for_programs(run, capsys):
    assert main(["list", "--folder", str(run.parent)]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in [*SYSTEMS, "shapes", str(run)])
    assert "``" not in text
    assert main(["list", "--json", "--folder", str(run.parent)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(row["name"] for row in told["systems"]) == sorted(SYSTEMS)
    families = [row["family"] for row in told["systems"]]
    assert all(families[i] == families[i - 1] for i in range(1, len(families)) if families[i] in families[:i])
    assert {"run": str(run), "system": "ddpm"} in told["runs"]
    assert main(["list", "systems", "--json", "--search", "latent"]) == 0
    assert "ddpm" not in [row["name"] for row in json.loads(capsys.readouterr().out)]


def test_a_damaged_run_hides_no_other(run, tmp_path, capsys):
    for name, text in (("half", "{"), ("foreign", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    (tmp_path / "whole").symlink_to(run)
    assert main(["list", "runs", "--json", "--folder", str(tmp_path)]) == 0
    told = {row["run"]: row["system"] for row in json.loads(capsys.readouterr().out)}
    assert told == {str(tmp_path / n): s for n, s in (("half", "?"), ("foreign", "?"), ("whole", "ddpm"))}


@pytest.mark.parametrize("name", SYSTEMS)
def test_describe_tells_paper_equations_file_and_presets(name, capsys):
    assert main(["describe", name]) == 0
    text = capsys.readouterr().out
    assert main(["describe", name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["paper"] in text
    assert told["equations"]
    assert told["file"].endswith(f"{name}.py")
    assert all(preset["name"] in text for preset in told["presets"])
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dalle", "A model 'dalle' comes along; its card: "),
        ("shapes", "A dataset is called so, too. shapes: "),
    ],
)
def test_what_is_called_alike_is_named_as_well(name, words, capsys):
    assert main(["describe", name]) == 0
    assert words in capsys.readouterr().out


def test_cite_gives_bibtex_of_a_run_and_of_us(run, capsys):
    assert main(["cite", str(run)]) == 0
    text = capsys.readouterr().out
    assert "@inproceedings{ho2020denoising," in text
    assert "@software{sfumato," in text
    assert text.count("{") == text.count("}")


def test_doctor_finds_a_fit_machine_and_says_what_is_not(tmp_path, capsys):
    assert main(["doctor", "--json", "--folder", str(tmp_path)]) == 0
    checks = {check["what"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["torch"]["state"] == "ok"
    assert checks["writable"]["found"] == str(tmp_path)
    assert all(check["remedy"] for check in checks.values() if check["state"] == "fault")
    assert main(["doctor", "--probe"]) == 0
    assert "auto means" in capsys.readouterr().out


def test_completion_scripts_know_verbs_and_options(capsys):
    words = ("generate", "guidance", "doctor", "probe", "walk", "crossover")
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert all(word in script for word in words), shell
    assert main(["completion", "fish", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["shell"], len(told["script"])) == ("fish", len(script.rstrip("\n")))


def test_public_names_are_there():
    assert all(getattr(sfumato, name) is not None for name in sfumato.__all__)
    assert {"Event", "Request", "Result"} == set(request.__all__) - set(sfumato.__all__)
    with pytest.raises(AttributeError, match="module 'sfumato' has no attribute 'lod'"):
        _ = sfumato.lod
