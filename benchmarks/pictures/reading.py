"""Plates of what reads: handwriting, a language with gaps, and captions on their way to pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.pictures.plates import MARGIN, PALE, Colour, Row, Sheet, cloud, font, row
from benchmarks.pictures.words import FIRST, SEED, drawn, made
from benchmarks.t5 import probed
from sfumato.apps.sheet import INK, Cell
from sfumato.core.request import Imagine, Read, Text, Vary
from sfumato.data.frame import dark_on_light
from sfumato.data.shapes.corner import CornerShape
from sfumato.data.shapes.related import shape_stories
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.data.unigram import END, PAD
from sfumato.data.words import Words, curved_words, handwriting
from sfumato.images import to_pil
from sfumato.nn.t5 import T5Network
from sfumato.systems.reading.htr import AttentionHTR
from sfumato.systems.text.t5 import T5, batched, corrupted
from sfumato.systems.text.unclip import Unclip

RIGHT, WRONG, BLUE, GREY = (24, 110, 70), (190, 50, 36), (46, 98, 176), (190, 190, 196)
WORDS, GAPPED, MOST = 6, 5, 40
STORY, STORY_LINE = 14, 20
EMBEDDED, DOWN = 200, 262


@torch.no_grad()
def htr(system: AttentionHTR, path: Path) -> Path:
    """Words as written, bent straight, and read; half of them lean and bow more than any it learned."""
    halves = [_read(system, data("test", length=FIRST + WORDS)) for data in (handwriting, curved_words)]
    rows = [Row([*one, *other]) for one, other in zip(*halves, strict=True)]
    heads = ("as it learned: given", "bent straight, and read", "beyond: given", "bent straight, and read")
    sheet = Sheet(
        "AttentionHTR: bends a word straight, looks along it, spells it",
        "Words and writers that no training saw; on the right they lean and bow further than any it learned.",
    )
    sheet.table([Row(rows[0].cells, heads=heads), *rows[1:]], gap=12)
    return sheet.save(path)


def _read(system: AttentionHTR, data: Words) -> list[list[Cell]]:
    """Pictures beside how they are seen, with what is read and what was written."""
    batch = data.batch(torch.arange(FIRST, FIRST + WORDS))
    *_, told = system.run(Read(images=batch["image"], count=WORDS))
    assert isinstance(told, Text)
    assert system.network.transformation is not None
    straight = system.network.transformation(dark_on_light(batch["image"])).clamp(-1, 1)
    return [
        [
            Cell(to_pil(x), ""),
            Cell(to_pil(y), f"{said}  ({share:.0%})", "" if said == true else f"written: {true}"),
        ]
        for x, y, said, share, true in zip(
            batch["image"], straight, told.texts, told.confidence, batch["text"], strict=True
        )
    ]


@torch.no_grad()
def t5(system: T5, path: Path) -> Path:
    """Gaps that it fills, and what its states know of a caption."""
    left, wide = 256, 136
    sheet = Sheet("T5: a language learned from texts, by filling in what was left out")
    sheet.text(
        "Fresh stories. Words in colour were left out and are what it wrote: green if right, red if not.",
        ink=PALE,
    )
    sheet.y += 8
    data = shape_stories("test", 16, length=FIRST + GAPPED)
    for i, story in enumerate(data.batch(torch.arange(FIRST, FIRST + GAPPED))["caption"]):
        _inline(sheet, _filled(system, story, SEED + i))
        sheet.y += 8
    sheet.y += 8
    sheet.text(
        "What a linear probe reads off the states of words of colour in captions as 'a red circle above a "
        "blue square': shares right, of fresh captions.",
        ink=PALE,
    )
    sheet.y += 6
    for k, asked in enumerate(("named first", "its shape", "the other's colour")):
        sheet.write(asked, left + k * wide + (wide - font().getlength(asked)) / 2, sheet.y, PALE)
    sheet.y += 20
    told = [torch.tensor(probed(system, alone=alone)[:3]) for alone in (False, True)]
    names = ("the encoder's states", "control: vectors of words alone", "chance")
    chance = torch.tensor([1 / 2, 1 / len(SHAPES), 1 / len(COLOURS)])
    sheet.matrix(torch.stack([*told, chance]), left=left, side=(wide, 28), labels=names)
    return sheet.save(path)


def _filled(system: T5, story: str, seed: int) -> list[tuple[str, Colour]]:
    """The words of a story; those that were left out are what it writes in their place."""
    network, c = system.network, system.config
    assert isinstance(network, T5Network)
    row_of = [token for token in c.tokenizer.encode([story]).tokens[0].tolist() if token != PAD]
    asked, answer = corrupted(row_of, seed, c)
    said = [PAD]
    while len(said) <= MOST and said[-1] != END:
        said.append(int(network.write(batched([asked], system.device), torch.tensor([said]))[0, -1].argmax()))
    first = c.network.vocabulary - c.sentinels
    guesses, truths = (_stretches(tokens, first) for tokens in (said[1:], answer))
    told: list[tuple[str, Colour]] = []
    for token in asked[:-1]:
        if token < first:
            told.append((c.tokenizer.decode([token]), INK))
            continue
        guess, true = (c.tokenizer.decode(part.get(token, [])) for part in (guesses, truths))
        told.append((guess or "...", RIGHT if guess == true else WRONG))
        told += [] if guess == true else [(f"[{true}]", PALE)]
    return told


def _stretches(tokens: Sequence[int], first: int) -> dict[int, list[int]]:
    """What stands behind each mark."""
    found: dict[int, list[int]] = {}
    mark = -1
    for token in tokens:
        if token >= first:
            mark = token
        elif token != END:
            found.setdefault(mark, []).append(token)
    return found


def _inline(sheet: Sheet, told: Sequence[tuple[str, Colour]]) -> None:
    """Words one after the other, each in its colour."""
    x, length = float(MARGIN), font(STORY).getlength
    for words, ink in told:
        for word in words.split():
            if x > MARGIN and word[0] in ",.":
                x -= length(" ")
            if x + length(word) > sheet.width - MARGIN:
                x, sheet.y = float(MARGIN), sheet.y + STORY_LINE
            sheet.write(word, x, sheet.y, ink, STORY)
            x += length(word + " ")
    sheet.y += STORY_LINE


@torch.no_grad()
def prior(system: Unclip, path: Path) -> Path:
    """Where captions, priors and pictures lie in CLIP's space, and what is drawn from each."""
    side = system.config.height
    data = CornerShape("test", side, length=FIRST + EMBEDDED, levels={"full": 1.0})
    batch = data.batch(torch.arange(FIRST, FIRST + EMBEDDED))
    images, captions, inside = batch["image"], list(batch["caption"]), system.prior
    seen = inside.clip.encode_images(images).float()
    ways = {
        "none": "the text's own embedding",
        "autoregressive": "autoregressive prior",
        "diffusion": "diffusion prior",
    }
    found = {way: _imagined(system, captions, way) for way in ways}
    axes = _axes(seen, found["none"])
    places = {way: x @ axes for way, x in found.items()} | {"pictures": seen @ axes}
    every = torch.cat(list(places.values()))
    low, high = every.amin(0), every.amax(0)
    room = 0.05 * (high - low)
    cells = []
    for way, name in ways.items():
        parts = [(places["pictures"], GREY), (places[way], BLUE if way == "none" else WRONG)]
        alike = f"cosine with the picture's embedding {float((found[way] * seen).sum(1).mean()):.2f}"
        cells.append(Cell(cloud(parts, DOWN, low - room, high + room, dot=2), name, alike))
    sheet = Sheet(
        "Priors of unCLIP: from a caption to the embedding of a picture",
        f"Grey: the embeddings of {EMBEDDED} held-out pictures; in colour, what is made of their captions.",
    )
    sheet.table([Row(cells)], side=DOWN, gap=20)
    shown = captions[:6]
    rows = [row(drawn(system, shown, prior=way), name) for way, name in ways.items()]
    like = Vary(images=images[:6], count=6, seed=SEED, strength=1.0, guidance=system.config.guidance)
    rows += [row(made(system, like), "the picture's own embedding"), row(images[:6], "the picture")]
    sheet.text("What the decoder draws from them", ink=PALE)
    sheet.y += 6
    sheet.table([Row(rows[0].cells, rows[0].label, shown), *rows[1:]], label=112)
    return sheet.save(path)


def _imagined(system: Unclip, captions: Sequence[str], way: str) -> Tensor:
    asked = Imagine(prompt=tuple(captions), count=len(captions), seed=SEED, prior=way)
    *_, answer = system.prior.run(asked)
    return answer.vectors.float()  # type: ignore[union-attr]


def _axes(seen: Tensor, read: Tensor) -> Tensor:
    """Across: from texts to pictures. Upwards: where pictures differ most, at a right angle to it."""
    across = normalize(seen.mean(0) - read.mean(0), dim=0)
    rest = seen - seen.mean(0)
    rest = rest - (rest @ across)[:, None] * across
    _, vectors = torch.linalg.eigh(rest.T @ rest)
    return torch.stack([across, vectors[:, -1]], 1)
