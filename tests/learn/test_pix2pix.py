"""pix2pix turns drawings into pictures with all they show, and weaves the cloth that no drawing tells of."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.translation import of_pairs
from sfumato.data.pairs import edges_to_shapes

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

L1 = 0.35
"""Of the mean picture's distance."""
READ = 0.95
"""Share of objects whose shape, colour, size and texture the oracle finds as they were drawn."""
DETAIL = (0.7, 1.3)
"""Energy of the finest detail, of that of true pictures; distance alone must stay below."""
CONTROL = 0.05


def checked(model: str) -> dict[str, float]:
    found = of_pairs(sfumato.load(model, precision="fp32"), edges_to_shapes("test"))
    print(model, {name: round(value, 3) for name, value in found.items()})
    return found


def passes(found: dict[str, float]) -> None:
    assert found["l1 to mean picture"] <= L1
    assert found["seen all"] >= READ
    assert found["seen ground"] >= READ
    assert DETAIL[0] <= found["detail"] <= DETAIL[1]
    assert found["seen all in others"] <= CONTROL


def test_the_shipped_model_colours_drawings():
    passes(checked("shapes-from-edges"))


def test_the_preset_reaches_its_figures_and_distance_alone_blurs(tmp_path):
    sfumato.train("pix2pix", "laptop", out=tmp_path / "run", quiet=True)
    found = checked(str(tmp_path / "run"))
    passes(found)
    sfumato.train("pix2pix", "laptop", out=tmp_path / "l1", settings={"adversarial": 0.0}, quiet=True)
    alone = checked(str(tmp_path / "l1"))
    assert alone["detail"] < DETAIL[0]
    assert found["l1"] <= 1.3 * alone["l1"]
