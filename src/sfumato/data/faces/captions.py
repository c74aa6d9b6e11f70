"""Captions of faces: one sentence that says the mood, the hair and what else catches the eye."""

from __future__ import annotations

from sfumato.data.faces.scene import ATTRIBUTES, KINDS, Portraits
from sfumato.data.shapes.scene import scene_keys, unit

# How often a caption says what it may leave out.
_SAYS_SKIN, _SAYS_EYES, _SAYS_CLOTHES, _SAYS_BACKGROUND = 0.3, 0.3, 0.3, 0.6
_CLEARLY = 0.55
"""A look or a turn beyond this is said."""
GRAMMAR = (
    "a", "face", "with", "hair", "in", "glasses", "lips", "eyes", "skin", "eyeshadow", "clothes", "and",
    ",", "on", "background", "looking", "left", "right", "up", "down", "turned", "to", "the",
)  # fmt: skip
VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            *GRAMMAR,
            *(k for name in ATTRIBUTES if name != "head" for k in KINDS[name] if k not in ("none", "plain")),
        ]
    )
)
"""Every word that captions are made of; commas are words. The shape of the head is never said."""
LONGEST = 48
"""No caption has more words than this."""


def caption(portraits: Portraits, seed: int = 0) -> list[str]:
    """Describe every portrait; the words depend on ``seed`` and the portrait's key alone."""
    chance = unit(scene_keys(seed, portraits.key), range(60, 64))
    rows = zip(portraits.table.tolist(), portraits.directions.tolist(), chance.tolist(), strict=True)
    return [_sentence(*row) for row in rows]


def _sentence(values: list[int], directions: list[float], chances: list[float]) -> str:
    said = {name: KINDS[name][value] for name, value in zip(ATTRIBUTES, values, strict=True)}
    things = [_hair(said["hair"], said["style"])]
    if chances[0] < _SAYS_SKIN:
        things.append(f"{said['skin']} skin")
    if said["glasses"] != "none":
        things.append(f"{said['glasses']} glasses")
    if chances[1] < _SAYS_EYES:
        things.append(f"{said['eyes']} eyes")
    if said["shadow"] != "none":
        things.append(f"{said['shadow']} eyeshadow")
    if said["lips"] != "plain":
        things.append(f"{said['lips']} lips")
    if chances[2] < _SAYS_CLOTHES:
        things.append(f"{said['clothes']} clothes")
    first, last = ", ".join(things[:-1]), things[-1]
    text = f"a {said['mood']} face with {f'{first} and {last}' if first else last}"
    text += "".join(f", {part}" for part in _directions(directions))
    return f"{text}, on a {said['background']} background" if chances[3] < _SAYS_BACKGROUND else text


def _hair(colour: str, style: str) -> str:
    return f"{colour} hair in a {style}" if style in ("bun", "bob") else f"{style} {colour} hair"


def _directions(directions: list[float]) -> list[str]:
    x, y, turn, _ = directions
    parts = []
    if max(abs(x), abs(y)) > _CLEARLY:
        across, along = ("left", "right")[x > 0], ("up", "down")[y > 0]
        parts.append(f"looking {across if abs(x) >= abs(y) else along}")
    if abs(turn) > _CLEARLY:
        parts.append(f"turned to the {('left', 'right')[turn > 0]}")
    return parts
