"""Configurations survive JSON, and bad ones are refused with the path and the nearest valid key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from sfumato.config import ConfigError, from_dict, to_dict
from sfumato.registry import SYSTEMS, find


@dataclass(frozen=True)
class Round:
    radius: float = 1.0


@dataclass(frozen=True)
class Angled:
    corners: int = 4


@dataclass(frozen=True)
class Whole:
    kind: Literal["a", "b"] = "b"
    widths: tuple[int, ...] = (3, 5)
    pair: tuple[float, str] = (0.5, "x")
    part: Round | Angled = Angled(7)
    maybe: Round | None = None
    name: str | None = None


def test_a_configuration_survives_json():
    config = Whole(kind="a", part=Round(2.5), maybe=Round(), name="n")
    assert from_dict(Whole, json.loads(json.dumps(to_dict(config)))) == config
    assert from_dict(Whole, {}) == Whole()


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_preset_survives_json(name):
    kind = find(name, SYSTEMS, "system")
    for preset in kind.presets.values():
        assert from_dict(kind.Config, json.loads(json.dumps(to_dict(preset.config)))) == preset.config


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"widhts": [1]}, r"has no setting 'widhts'; did you mean 'widths'\?"),
        ({"part": {"class": "Round", "radus": 1}}, r"has no setting 'part.radus'; did you mean 'radius'\?"),
        ({"part": {"class": "Square"}}, r"'part.class' must be one of Round, Angled, got 'Square'"),
        ({"part": 3}, "'part' must be one of Round, Angled, got 3"),
        ({"maybe": {"class": "Angled"}}, "'maybe.class' must be one of Round, got 'Angled'"),
        ({"kind": "c"}, "'kind' must be one of 'a', 'b', got 'c'"),
        ({"widths": ["1"]}, r"'widths\[0\]' must be int, got '1'"),
        ({"widths": 3}, "'widths' must be a list, got 3"),
        ({"pair": [1.0]}, "'pair' must have 2 entries"),
        ({"class": "Other"}, "'class' must be Whole, got 'Other'"),
    ],
)
def test_what_cannot_be_read_is_named(data, match):
    with pytest.raises(ConfigError, match=match):
        from_dict(Whole, data)
