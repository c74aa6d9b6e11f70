"""CycleGAN stripes plain shapes and makes striped ones plain; what they are is kept by the cycle alone."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.translation import of_domains
from sfumato.data.domains import plain_to_striped

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

DOMAIN, CONTENT, CYCLE = 0.9, 0.8, 0.08
WHISPER = 2.0
"""Times by which noise may worsen the way home; more would mean that a translation hides its original."""
CHANCE = 0.2
WAYS = ("plain-to-striped", "striped-to-plain")


def figures(model: str) -> dict[str, float]:
    found = of_domains(sfumato.load(model, precision="fp32"), plain_to_striped("test"))
    print(model, {name: round(value, 3) for name, value in found.items()})
    return found


def test_the_preset_reaches_its_figures(tmp_path):
    sfumato.train("cyclegan", "laptop", out=tmp_path / "run", quiet=True)
    found = figures(str(tmp_path / "run"))
    for way in WAYS:
        assert found[f"{way} domain"] >= DOMAIN
        assert found[f"{way} domain unchanged"] <= 0.05
        assert found[f"{way} content"] >= CONTENT
        assert found[f"{way} cycle"] <= CYCLE
        assert found[f"{way} cycle through noise"] <= WHISPER * found[f"{way} cycle"]


def test_without_the_cycle_content_is_lost(tmp_path):
    sfumato.train("cyclegan", "laptop", out=tmp_path / "run", settings={"cycle": 0.0}, quiet=True)
    found = figures(str(tmp_path / "run"))
    assert all(found[f"{way} content"] <= CHANCE for way in WAYS)
