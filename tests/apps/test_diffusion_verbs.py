"""The verbs that only diffusions know: branches out of one noise, and the cost in bits."""

from __future__ import annotations

import json

import pytest
import torch

import sfumato
from sfumato.apps.cli import main
from sfumato.core.request import Branch, Generate, Images, Invert, Video, Walk
from sfumato.errors import UsageError
from sfumato.images import read_settings


@pytest.fixture(scope="module")
def system(run):
    return sfumato.load(run, precision="fp32", device="cpu")


def served(system, request):
    *_, answer = system.run(request)
    return answer


def test_branches_share_what_was_decided_before_they_part(system):
    """The later they part, the more alike they are; parted at the start they are as any pictures."""

    def apart(at: float) -> float:
        answer = served(system, Branch(seed=3, count=6, at=at, steps=20))
        assert isinstance(answer, Images)
        assert answer.seeds == tuple(range(4, 10))
        return answer.pixels.var(0).mean().item()

    spreads = [apart(at) for at in (1.0, 0.5, 0.1)]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < spreads[0] / 2
    strangers = served(system, Generate(count=6, seed=4, steps=20, solver="ancestral"))
    assert spreads[0] == pytest.approx(strangers.pixels.var(0).mean().item(), rel=0.5)


def test_the_noise_of_a_picture_leads_back_to_it(system):
    """A network without weights believes nothing, so its flow is known and only the solver can err."""
    images = served(system, Generate(count=2, seed=0, steps=20, solver="ddim")).pixels
    errors = []
    for steps in (10, 40):
        answer = served(system, Invert(count=2, images=images, steps=steps))
        assert isinstance(answer, Images)
        assert answer.latents is not None
        errors.append((answer.pixels - images).abs().mean().item())
    assert errors[1] < 0.6 * errors[0] + 1e-3


def test_a_walk_begins_and_ends_with_its_pictures(system):
    film = served(system, Walk(seed=7, count=3, frames=2, label="4", steps=5))
    assert isinstance(film, Video)
    assert film.pixels.shape[:2] == (1, 5)
    with pytest.raises(UsageError, match="no truncation"):
        served(system, Walk(truncation=0.5))
    ends = served(system, Walk(count=2, frames=2, images=torch.zeros(2, 1, 8, 8)))
    assert torch.allclose(ends.pixels[0, 0], ends.pixels[0, -1], atol=1e-4)


def test_branch_writes_a_row_for_each_time(run, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["branch", "--model", str(run), "--at", "1", "0.5", "--count", "2", "--steps", "6"]
    assert main([*command, "--out", str(out), "--label", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [str(out / "sheet.png")]
    assert read_settings(out / "sheet.png")["at"] == [1, 0.5]
    assert main(["branch", "--model", str(run), "--at", "1.5", "--out", str(out)]) == 2
    assert "part at a time above 0" in capsys.readouterr().err


def test_bpd_tells_the_parts_of_its_bound(run, capsys):
    assert main(["bpd", str(run), "--count", "4", "--steps", "10", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n"] == 4
    assert told["bits"] == pytest.approx(sum(told["parts"].values()))
    assert 0 <= told["parts"]["prior"] < 0.01
    assert main(["bpd", "shapes", "--json"]) == 2
    assert "Only diffusions over pixels" in capsys.readouterr().err
    assert main(["bpd", str(run), "--count", "1"]) == 2
    assert "at least 2" in capsys.readouterr().err
