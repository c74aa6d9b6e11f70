"""Prompts of one shape, for the previews of systems that learn from such captions."""

from __future__ import annotations

from collections.abc import Iterable

from sfumato.core.generate import Generate

PROMPTS = (
    "a red circle",
    "a blue square",
    "a yellow star",
    "a green triangle",
    "a pink ring",
    "a cyan cross",
)


def preview(vocabulary: Iterable[str], count: int, seed: int) -> Generate:
    """Those of which a system knows every word; if it knows none, pictures of nothing said."""
    known = set(vocabulary)
    prompts = tuple(prompt for prompt in PROMPTS if known.issuperset(prompt.split()))
    return Generate(count=count, seed=seed, prompt=prompts or "")
