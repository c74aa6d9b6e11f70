"""The world of shapes: drawn by number, painted inside its cells, captioned and read back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.data import open_data
from sfumato.data.dataset import Dataset
from sfumato.data.shapes import (
    HELD_OUT,
    LEVELS,
    LONGEST,
    VOCABULARY,
    OneShape,
    Scenes,
    Shapes,
    caption,
    draw,
    read,
    render,
    satisfies,
)
from sfumato.data.shapes.reading import RELATIONS, Relation, WantedObject
from sfumato.data.shapes.scene import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    TEXTURES,
    held_out,
)
from sfumato.data.shapes.single import in_a_scene
from sfumato.data.text import WordTokenizer, words
from sfumato.errors import DataError, UsageError

LIMITS = dict(zip(ATTRIBUTES, (6, 8, 2, 3, 9), strict=True))
TOLD = ("short", "full", "descriptive")


def pairs_of(scenes: Scenes) -> torch.Tensor:
    return torch.where(scenes.shape >= 0, scenes.colour * len(SHAPES) + scenes.shape, -1)


def one(shape, colour, size="large", texture="solid", place="centre", background="grey") -> Scenes:
    values = (SHAPES.index(shape), COLOURS.index(colour), SIZES.index(size), TEXTURES.index(texture))
    slots = [torch.tensor([[value, -1, -1]]) for value in (*values, PLACES.index(place))]
    ground, one = torch.tensor([BACKGROUNDS.index(background)]), torch.ones(1, dtype=torch.long)
    return Scenes(one, ground, *slots, torch.zeros(1, 3, 3), one)


# Scenes


def test_a_scene_depends_on_its_number_alone():
    rows = torch.tensor([7, 3, 4_000_000_000, 11])
    alone = [draw(5, rows[k : k + 1]) for k in range(4)]
    together = draw(5, rows)
    for name in Scenes.__dataclass_fields__:
        assert torch.equal(getattr(together, name), torch.cat([getattr(scene, name) for scene in alone])), (
            name
        )


def test_seeds_give_other_scenes():
    assert (draw(0, torch.arange(500)).key != draw(1, torch.arange(500)).key).all()
    assert len(draw(0, torch.arange(5000)).key.unique()) == 5000


def test_every_value_is_about_equally_frequent():
    scenes, n = draw(0, torch.arange(20_000), pairs="any"), 20_000
    for name, limit in LIMITS.items():
        counts = torch.bincount(getattr(scenes, name)[scenes.shape >= 0], minlength=limit)
        share = counts / counts.sum() * limit
        assert share.min() > 0.94, (name, share)
        assert share.max() < 1.06, (name, share)
    assert torch.bincount(scenes.number, minlength=4)[1:].min() > 0.32 * n
    assert torch.bincount(scenes.background).min() > 0.19 * n
    assert scenes.jitter.abs().max() <= 1
    assert abs(scenes.jitter.mean()) < 0.01
    assert abs(scenes.jitter.std() - 3**-0.5) < 0.01


def test_objects_differ_in_cell_and_in_colour_and_shape():
    for choice in ("train", "held", "any"):
        scenes = draw(3, torch.arange(4000), pairs=choice, objects=(3,))
        for values in (scenes.place, pairs_of(scenes)):
            ordered = values.sort(1).values
            assert (ordered[:, 1:] > ordered[:, :-1]).all()


def test_unused_slots_are_empty():
    scenes = draw(3, torch.arange(1000))
    for name in ATTRIBUTES:
        assert torch.equal((getattr(scenes, name) >= 0).sum(1), scenes.number), name
    assert set(draw(3, torch.arange(1000), objects=(2,)).number.tolist()) == {2}


def test_held_out_pairs_never_occur_in_training_and_always_in_held():
    assert 0.1 <= len(set(HELD_OUT)) / 48 <= 0.2
    assert {c for c, _ in HELD_OUT} == set(COLOURS)
    assert {s for _, s in HELD_OUT} == set(SHAPES)
    rows = torch.arange(20_000)
    assert not torch.isin(pairs_of(draw(0, rows)), held_out()).any()
    held = torch.isin(pairs_of(draw(0, rows, pairs="held")), held_out())
    assert held.any(1).all()
    assert held.any(0).all()  # in every slot
    seen = pairs_of(draw(0, rows)).unique()
    assert len(seen[seen >= 0]) == 48 - len(HELD_OUT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs": "hold"}, "'hold'; did you mean 'held'"),
        ({"objects": (0, 2)}, r"1, 2 or 3 objects, got objects=\(0, 2\)"),
    ],
)
def test_bad_choices_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        draw(0, torch.arange(2), **settings)


# Pictures


def test_pictures_are_in_range_and_of_the_size_asked():
    scenes = draw(0, torch.arange(300), pairs="any")
    for height, width in ((64, 64), (32, 32), (47, 66), (33, 20), (12, 12)):
        pixels = render(scenes, height, width)
        assert pixels.shape == (300, 3, height, width)
        assert pixels.dtype == torch.float32
        assert -1 - 1e-5 <= pixels.min() <= pixels.max() <= 1 + 1e-5


def test_a_picture_does_not_depend_on_its_company():
    scenes = draw(0, torch.arange(40))
    together = render(scenes, 37, 50)
    for k in (0, 17, 39):
        assert torch.equal(render(scenes[k : k + 1], 37, 50)[0], together[k])


def test_objects_stay_in_their_cells():
    scenes = draw(1, torch.arange(400), objects=(1,))
    scenes = replace(scenes, jitter=scenes.jitter.sign())  # as far out and as large as it gets
    pixels = render(scenes, 63)
    ground = pixels[:, :, :1, :1].where(scenes.place[:, 0, None, None, None] != 0, pixels[:, :, -1:, -1:])
    touched = (pixels - ground).abs().amax(1) > 1e-3
    cells = touched.view(400, 3, 21, 3, 21).any(4).any(2).flatten(1)
    assert torch.equal(cells, torch.nn.functional.one_hot(scenes.place[:, 0], 9).bool())


@pytest.mark.parametrize("size", [32, 64])
def test_any_two_objects_look_different(size):
    """The nearest two of all objects in one place differ in several pixels: nothing is ambiguous."""
    options = [(s, z, t) for s in SHAPES for z in SIZES for t in TEXTURES]
    for colour, ground in (("yellow", "white"), ("purple", "navy"), ("green", "olive")):
        pixels = torch.cat([render(one(s, colour, z, t, background=ground), size) for s, z, t in options])
        apart = torch.cdist(pixels.flatten(1), pixels.flatten(1)) + 100 * torch.eye(len(options))
        assert apart.min() > (1.0 if size == 32 else 2.5)


def test_the_plain_middle_of_a_solid_object_has_its_colour():
    red = render(one("square", "red"), 64)[0, :, 32, 32]
    assert red[0] > 0.7
    assert red[1:].max() < -0.6
    middle = render(one("ring", "red", background="navy"), 64)[0, :, 32, 32]
    assert torch.equal(middle, render(one("ring", "red", background="navy"), 64)[0, :, 0, 0])


def test_sizes_do_not_overlap():
    areas = {}
    for size in SIZES:
        scene = one("circle", "red", size, background="black")
        for growth in (-1.0, 1.0):
            pixels = render(replace(scene, jitter=torch.full((1, 3, 3), growth)), 64)
            areas[size, growth] = float((pixels[0, 0] > 0).sum())
    assert areas["large", -1.0] > 1.5 * areas["small", 1.0]


def test_too_small_a_picture_is_refused():
    with pytest.raises(UsageError, match="12 pixels a side, got 8 x 64"):
        render(draw(0, torch.arange(1)), 8, 64)


# Captions


@pytest.mark.parametrize("level", LEVELS)
def test_captions_use_the_vocabulary_and_fit(level):
    texts = caption(draw(0, torch.arange(1000), pairs="any"), level, 0)
    tokenizer = WordTokenizer(VOCABULARY, LONGEST)
    assert int(tokenizer.encode(texts).dropped.sum()) == 0
    assert all(text == text.lower() and text for text in texts)


def test_the_vocabulary_has_no_word_that_captions_never_use():
    scenes = draw(0, torch.arange(1000), pairs="any")
    used = {word for level in LEVELS for text in caption(scenes, level, 0) for word in words(text)}
    assert used == set(VOCABULARY)
    assert len(VOCABULARY) <= 64


def test_a_caption_depends_on_scene_and_seed_alone():
    scenes = draw(0, torch.arange(200))
    together = caption(scenes, "short", 4)
    assert together[150] == caption(scenes[150:151], "short", 4)[0]
    assert together != caption(scenes, "short", 5)
    mixed = caption(scenes[:2], ["full", "short"], 4)
    assert mixed == [caption(scenes[:1], "full", 4)[0], together[1]]


@pytest.mark.parametrize("level", TOLD)
def test_a_scene_satisfies_its_caption(level):
    scenes = draw(0, torch.arange(500), pairs="any")
    for name, right in satisfies(scenes, [read(text) for text in caption(scenes, level, 0)]).items():
        assert name == "said" or right.all(), name


@pytest.mark.parametrize("level", ["full", "descriptive"])
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_careful_caption_is_false_of_any_other_scene(level, name):
    scenes = draw(0, torch.arange(150), pairs="any")
    wanted = [read(text) for text in caption(scenes, level, 0)]
    for slot in range(3):
        for shift in range(1, LIMITS[name]):
            values = getattr(scenes, name).clone()
            there = values[:, slot] >= 0
            values[:, slot] = torch.where(there, (values[:, slot] + shift) % LIMITS[name], -1)
            right = satisfies(replace(scenes, **{name: values}), wanted)
            assert not right["all"][there].any()
            assert not right[name][there].all(1).any()
            assert right["all"][~there].all()
            assert right["background"].all()


def test_a_short_caption_is_false_when_what_it_says_changes():
    scenes = draw(0, torch.arange(400), pairs="any")
    wanted = [read(text) for text in caption(scenes, "short", 0)]
    said = satisfies(scenes, wanted)["said"]
    for k, name in enumerate(ATTRIBUTES):
        changed = replace(
            scenes, **{name: torch.where(scenes.shape >= 0, (getattr(scenes, name) + 1) % LIMITS[name], -1)}
        )
        right = satisfies(changed, wanted)
        if name in ("shape", "colour", "texture"):
            assert not right["all"].any()
        else:
            assert not right["all"][said[:, :, k].any(1)].any()
            silent = ~said[:, :, k].any(1) & torch.tensor([not w.relations for w in wanted])
            assert right["all"][silent].all()


def test_background_number_and_relation_are_held_against_the_scene():
    scenes = draw(0, torch.arange(400), objects=(2,))
    wanted = [read(text) for text in caption(scenes, "short", 0)]
    other = replace(scenes, background=(scenes.background + 1) % len(BACKGROUNDS))
    says = torch.tensor([w.background is not None for w in wanted])
    assert torch.equal(satisfies(other, wanted)["background"], ~says)
    assert not satisfies(replace(scenes, number=scenes.number + 1), wanted)["all"].any()
    related = torch.tensor([bool(w.relations) for w in wanted])
    assert 0.5 < related.float().mean() < 0.8
    swapped = satisfies(replace(scenes, place=scenes.place[:, [1, 0, 2]]), wanted)
    assert not swapped["relations"][related].any()
    assert swapped["relations"][~related].all()


def test_all_four_relations_are_said_and_true():
    scenes = draw(0, torch.arange(400), objects=(2,))
    kinds = [w.relations[0].kind for w in map(read, caption(scenes, "short", 0)) if w.relations]
    assert min(kinds.count(k) for k in range(4)) > 0.12 * len(kinds)


def test_the_order_of_objects_is_free():
    scenes = draw(0, torch.arange(300), objects=(3,))
    wanted = [read(text) for text in caption(scenes, "full", 0)]
    turned = {name: getattr(scenes, name)[:, [2, 0, 1]] for name in ATTRIBUTES}
    assert satisfies(replace(scenes, **turned), wanted)["all"].all()


def test_an_object_that_is_missing_is_wrong_in_everything_said():
    wanted = [read("a red circle and an object"), read("a blue ring")]
    found = satisfies(one("circle", "red"), wanted[:1])
    assert found["objects"].tolist() == [[True, False, True]]
    assert not found["number"].item()
    assert satisfies(one("circle", "blue"), wanted[1:])["colour"][0, 0].item()
    assert not satisfies(one("circle", "blue"), wanted[1:])["shape"][0, 0].item()


# Reading


def thing(shape=None, colour=None, size=None, texture="solid", place=None) -> WantedObject:
    given = zip(
        (SHAPES, COLOURS, SIZES, TEXTURES, PLACES), (shape, colour, size, texture, place), strict=True
    )
    return WantedObject(*[None if value is None else names.index(value) for names, value in given])


def test_a_relation_is_read():
    wanted = read("A red circle to the LEFT of a small dotted blue square, on a navy background")
    assert wanted.objects == (thing("circle", "red"), thing("square", "blue", "small", "dotted"))
    assert wanted.relations == (Relation(RELATIONS.index("left of"), 0, 1),)
    assert (wanted.number, wanted.background) == (2, BACKGROUNDS.index("navy"))


@pytest.mark.parametrize(
    "text",
    [
        "a large striped red star at the top left and a ring at the centre",
        "at the top left is a striped large red star. at the centre is a ring.",
        "two objects. at the top left is a large red striped star, at the centre is a ring",
        "a ring at the centre, a large striped red star at the left top",
        "there is a large striped red star in the top left and a solid ring at the centre",
    ],
)
def test_the_same_thing_said_differently_is_read_the_same(text):
    expected = {thing("star", "red", "large", "striped", "top left"), thing("ring", place="centre")}
    assert set(read(text).objects) == expected


def test_what_is_unsaid_is_open_but_for_the_texture():
    wanted = read("a circle")
    assert wanted.objects == (thing("circle"),)
    assert wanted.background is None
    assert read("a red object").objects == (thing(None, "red"),)
    assert read("two objects on a white background").objects == (WantedObject(), WantedObject())
    assert read("on a white background").number is None
    assert read("").objects == ()


def test_noise_can_be_read_and_is_often_wrong():
    scenes = draw(0, torch.arange(400))
    right = satisfies(scenes, [read(text) for text in caption(scenes, "noisy", 0)])["all"]
    assert right.float().mean() < 0.4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a red cirle", "unknown word 'cirle'; did you mean 'circle'"),
        ("a red blue circle", "two kinds of colour"),
        ("a circle on a navy and black background", "two backgrounds"),
        ("a circle on a red background", "background of 'red'; choose from white"),
        ("a red circle above", "breaks off after 'above'"),
        ("above a red circle", "'above' before any object"),
        ("two circle", "counts 'two' of one kind"),
        ("one object. a circle and a square", "counts 1 but names 2"),
        ("a circle, a square, a star and a ring", "names 4 objects; a picture holds at most 3"),
        ("a circle at the top bottom", "unknown place 'bottom top'"),
    ],
)
def test_what_cannot_be_read_is_said_precisely(text, message):
    with pytest.raises(DataError, match=message):
        read(text)


def test_scenes_and_texts_must_pair():
    with pytest.raises(DataError, match="2 scenes do not pair with 1 texts"):
        satisfies(draw(0, torch.arange(2)), [read("a circle")])


# The dataset


def test_it_is_a_dataset_whose_examples_do_not_change():
    data = Shapes(size=32)
    assert isinstance(data, Dataset)
    rows = torch.tensor([5, 49_999, 0])
    batch = data.batch(rows)
    assert batch["image"].shape == (3, 3, 32, 32)
    assert batch["image"].dtype == torch.float32
    assert torch.equal(batch["index"], rows)
    again = data.batch(rows.flip(0))
    assert torch.equal(again["image"].flip(0), batch["image"])
    assert again["caption"][::-1] == batch["caption"]
    assert len(data) == 50_000
    assert set(batch) == data.facts.fields


def test_captions_of_the_dataset_are_true_and_mixed():
    data, rows = Shapes(), torch.arange(700)
    scenes, texts = data.scenes(rows), data.captions(data.scenes(rows))
    assert satisfies(scenes, [read(text) for text in texts])["all"].all()
    descriptive = sum(text.startswith(("one object", "two objects", "three objects")) for text in texts) / 700
    assert 0.06 < descriptive < 0.14
    assert int(WordTokenizer(data.facts.words, LONGEST).encode(texts).dropped.sum()) == 0
    only = Shapes(levels={"short": 1.0})
    assert only.captions(scenes) == caption(scenes, "short", only.seed)


def test_shapes_in_full_are_the_same_pictures_and_leave_nothing_unsaid():
    data, rows = open_data("shapes-in-full", size=32), torch.arange(50)
    assert torch.equal(data.batch(rows)["image"], Shapes(size=32).batch(rows)["image"])
    assert data.batch(rows)["caption"] == caption(Shapes().scenes(rows), "full", Shapes().seed)


def test_splits_share_no_scene_and_held_has_held_out_pairs():
    rows = torch.arange(2000)
    keys = [set(Shapes(split).scenes(rows).key.tolist()) for split in ("train", "test", "held")]
    assert not keys[0] & keys[1] | keys[1] & keys[2] | keys[0] & keys[2]
    assert torch.isin(pairs_of(Shapes("held").scenes(rows)), held_out()).any(1).all()
    assert not torch.isin(pairs_of(Shapes("test").scenes(rows)), held_out()).any()


def test_the_fingerprint_changes_with_every_setting():
    variants = [
        Shapes(), Shapes("test"), Shapes(size=32), Shapes(length=7), Shapes(objects=(1,)), Shapes(seed=1),
        Shapes(levels={"full": 1.0}), Shapes(levels={"full": 1.0, "short": 2.0}),
    ]  # fmt: skip
    assert len({data.facts.fingerprint for data in variants}) == len(variants)
    assert Shapes().facts == Shapes().facts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "tset"}, "no split 'tset'; did you mean 'test'"),
        ({"size": 8}, "12 pixels a side, got 8"),
        ({"levels": {"shrot": 1.0}}, "caption level 'shrot'; did you mean 'short'"),
        ({"levels": {"short": 0.0}}, "need weights above 0"),
        ({"objects": (4,)}, "1, 2 or 3 objects"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Shapes(**settings)


def test_numbers_beyond_the_end_are_refused():
    with pytest.raises(IndexError, match="examples 0 to 9, got"):
        Shapes(length=10).batch(torch.tensor([10]))


def test_one_shape_fills_its_picture_and_is_said_in_few_words():
    data = OneShape("test", 32, length=60)
    batch = data.batch(torch.arange(60))
    scenes = data.scenes(torch.arange(60))
    assert (len(data), data.facts.name) == (60, "one-shape")
    assert batch["image"].shape == (60, 3, 32, 32)
    assert satisfies(scenes, [read(text) for text in batch["caption"]])["all"].all()
    assert torch.equal(in_a_scene(batch["image"])[:, :, 32:64, 32:64], batch["image"])
    assert (in_a_scene(batch["image"]) - render(scenes, 96)).abs().mean() < 1e-3
    assert OneShape("test", 32).facts.fingerprint != OneShape("held", 32).facts.fingerprint


def test_held_out_pairs_fill_pictures_of_their_own():
    pairs = {split: OneShape(split, 32).scenes(torch.arange(400)) for split in ("train", "held")}
    shown = {
        k: set(zip(s.colour[:, 0].tolist(), s.shape[:, 0].tolist(), strict=True)) for k, s in pairs.items()
    }
    wanted = {(COLOURS.index(c), SHAPES.index(s)) for c, s in HELD_OUT}
    assert shown["held"] == wanted
    assert shown["train"].isdisjoint(wanted)
