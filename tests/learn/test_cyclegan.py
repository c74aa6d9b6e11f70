"""CycleGAN stripes plain shapes and makes striped ones plain, and keeps what it is not asked to change."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.translation import of_domains
from sfumato.data.domains import plain_to_striped

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

DOMAIN, CONTENT, CYCLE = 0.9, 0.8, 0.08
"""Asked; 1.000, .990 and .044 were reached."""
WHISPER = 2.0
"""Times by which noise may worsen the way home; more would mean that a translation hides its original."""
WAYS = ("plain-to-striped", "striped-to-plain")


def test_the_preset_reaches_its_figures(tmp_path):
    sfumato.train("cyclegan", "laptop", out=tmp_path / "run", quiet=True)
    system = sfumato.load(tmp_path / "run", precision="fp32")
    found = of_domains(system, plain_to_striped("test"))
    print({name: round(value, 3) for name, value in found.items()})
    for way in WAYS:
        assert found[f"{way} domain"] >= DOMAIN
        assert found[f"{way} domain unchanged"] <= 0.05
        assert found[f"{way} content"] >= CONTENT
        assert found[f"{way} content of others"] <= 0.1
        assert found[f"{way} cycle"] <= CYCLE
        assert found[f"{way} cycle through noise"] <= WHISPER * found[f"{way} cycle"]
