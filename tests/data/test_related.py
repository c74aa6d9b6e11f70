"""Two shapes in a relation: what is said is true, and the order of words carries it."""

from __future__ import annotations

import torch

from sfumato.data.shapes.reading import read, satisfies
from sfumato.data.shapes.related import RelatedShapes, shape_stories
from sfumato.data.shapes.scene import HELD_OUT

ROWS = torch.arange(300)


def test_captions_are_true_and_say_a_relation():
    data = RelatedShapes("train", 24)
    wanted = [read(caption) for caption in data.batch(ROWS[:40])["caption"]]
    scenes = data.scenes(ROWS[:40])
    assert satisfies(scenes, wanted)["all"].all()
    assert all(len(w.relations) == 1 and w.number == 2 for w in wanted)
    order = [read(" ".join(reversed_(caption))) for caption in data.captions(scenes)]
    assert not satisfies(scenes, order)["relations"].any(), "the other way round it is false"


def reversed_(caption: str) -> list[str]:
    """The same words with both objects exchanged."""
    words = caption.split()
    return [*words[-3:], *words[3:-3], *words[:3]]


def test_both_objects_come_first_and_all_relations_occur():
    data = RelatedShapes("train", 24)
    captions = data.captions(data.scenes(ROWS))
    counts = {
        name: sum(f" {name} " in c for c in captions) for name in ("left of", "right of", "above", "below")
    }
    assert sum(counts.values()) == len(ROWS)
    assert min(counts.values()) > len(ROWS) / 8


def test_every_sentence_of_a_story_is_true():
    data = shape_stories("test", 24, length=300)
    scenes = data.scenes(ROWS[:60])
    for i, story in enumerate(data.captions(scenes)):
        for sentence in story.split("."):
            if sentence.strip():
                wanted = read(sentence)
                right = satisfies(scenes[i : i + 1], [wanted])
                assert right["relations"].all(), sentence
                assert right["objects"].all(), sentence
    assert data.facts.fingerprint != RelatedShapes("test", 24, length=300).facts.fingerprint


def test_held_out_pairs_stay_out_of_training():
    pairs = {f"{colour} {shape}" for colour, shape in HELD_OUT}
    seen = RelatedShapes("train", 24)
    told = seen.captions(seen.scenes(ROWS))
    assert not any(pair in caption for caption in told for pair in pairs)
    held = RelatedShapes("held", 24)
    assert all(any(pair in caption for pair in pairs) for caption in held.captions(held.scenes(ROWS)))
