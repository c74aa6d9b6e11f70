"""Requests: taken in parts, and refused when they make no sense."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sfumato.core.request import Event, Generate, Images, Progress
from sfumato.core.serving import in_parts
from sfumato.errors import UsageError

ALL = frozenset({"caption", "label"})


def serve(request: Generate) -> Iterator[Event]:
    """A picture's only pixel is its seed; its caption is its prompt."""
    yield Progress(0.5)
    pixels = torch.arange(request.seed, request.seed + request.count).view(-1, 1, 1, 1) / 100
    prompts = request.prompt if isinstance(request.prompt, tuple) else (request.prompt,)
    captions = tuple(prompts[i % len(prompts)] for i in range(request.count))
    yield Images(pixels, captions=captions, notes=("one note",))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_parts_make_the_whole(size):
    *progress, result = in_parts(serve, Generate(seed=4, count=5, prompt=("a", "b", "c")), size, ALL)
    assert result.pixels.flatten().tolist() == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.08])
    assert result.seeds == (4, 5, 6, 7, 8)
    assert result.captions == ("a", "b", "c", "a", "b")
    assert result.notes == ("one note",)
    parts = -(-5 // size)
    assert [event.done for event in progress] == pytest.approx([(i + 0.5) / parts for i in range(parts)])


@pytest.mark.parametrize(
    ("request_", "hears", "match"),
    [
        (Generate(count=0), ALL, "count must be at least 1, got 0"),
        (Generate(steps=0), ALL, "steps must be at least 1, got 0"),
        (Generate(height=-8), ALL, "height must be at least 1, got -8"),
        (Generate(width=0), ALL, "width must be at least 1, got 0"),
        (Generate(guidance_interval=(0.9, 0.1)), ALL, "two times, 0 <= low < high <= 1, got 0.9 0.1"),
        (Generate(guidance_interval=(0.0, 2.0)), ALL, "two times, 0 <= low < high <= 1, got 0 2"),
        (Generate(guidance_rescale=7.0), ALL, "guidance_rescale must be from 0 to 1, got 7"),
        (Generate(prompt=()), ALL, "prompt is an empty tuple; give at least one"),
        (Generate(label=()), ALL, "label is an empty tuple; give at least one"),
        (Generate(prompt="a boot"), frozenset(), "trained without words; leave the prompt out"),
        (Generate(negative="a boot"), {"label"}, "trained without words; say what to show by its label"),
        (Generate(label=0), frozenset(), "trained without labels; leave the label out"),
        (Generate(label="boot"), {"caption"}, "trained without labels; name the class in the prompt"),
    ],
)
def test_what_makes_no_sense_is_refused(request_, hears, match):
    with pytest.raises(UsageError, match=match):
        list(in_parts(serve, request_, 4, frozenset(hears)))


def test_an_answer_is_printed_with_the_shapes_of_its_tensors():
    assert repr(Images(torch.zeros(2, 3, 5, 7), seeds=(4, 5), captions=("a", "b"))) == (
        "Images(pixels=<2 x 3 x 5 x 7>, seeds=(4, 5), captions=('a', 'b'), notes=(), latents=None)"
    )
