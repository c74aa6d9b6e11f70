"""What new captions are worth: the same DALL-E trained on alt text, on a captioner's texts, on true captions.

The captioner has learned from 2,000 pictures with careful captions; the pool has 20,000 with alt text, where
a colour that is named is wrong nearly as often as not. Judged as in ``benchmarks.textgans``: fresh short
prompts, an independent oracle, colour and shape both right. Prompts are asked as they are, and expanded in
the style of the captions, as DALL-E 3 does.

Example: python -m benchmarks.recaptioning runs/vqvae-one-shape runs/captioner-laptop --steps 500
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.textgans import Faith, drawn, judge, scenes
from sfumato import load
from sfumato.core.request import Caption, Text
from sfumato.core.system import System
from sfumato.core.trainer import Trainer
from sfumato.data.retold import Retold, mixed
from sfumato.data.shapes import OneShape
from sfumato.data.shapes.expansion import expanded
from sfumato.device import setup
from sfumato.systems.text.dalle import DALLE

POOL, SIZE = 20_000, 32


def pool(level: str, count: int = POOL) -> OneShape:
    """The same pictures with captions of one level."""
    return OneShape("train", SIZE, length=count, levels={level: 1.0})


def captions_of(data: OneShape) -> list[str]:
    """All captions, without the pictures."""
    return [text for rows in torch.arange(len(data)).split(1000) for text in data.batch(rows)["caption"]]


def described(captioner: System, data: OneShape) -> list[str]:
    """What the captioner says of every picture."""
    said: list[str] = []
    for rows in torch.arange(len(data)).split(1000):
        *_, answer = captioner.run(Caption(images=data.batch(rows)["image"]))
        assert isinstance(answer, Text)
        said += answer.texts
    return said


def right_words(captioner: System, split: str, count: int) -> float:
    """Share of fresh pictures of which every word is right."""
    data = OneShape(split, SIZE, length=count, levels={"full": 1.0})
    told = described(captioner, data)
    return sum(map(str.__eq__, told, captions_of(data))) / count


def taught(captions: Sequence[str], first_stage: System, steps: int, seed: int = 0) -> DALLE:
    """The laptop preset of DALL-E, trained on the pool with these captions."""
    data = Retold(pool("noisy", len(captions)), captions)
    preset = DALLE.presets["laptop"]
    torch.manual_seed(seed)
    system = DALLE(DALLE.fit(preset.config, data.facts))
    system.adopt(first_stage)
    train = replace(preset.train, steps=steps, seed=seed)
    for report in Trainer(system, data, train, device=torch.device("cpu")).run():
        if report.step % 100 == 0:
            print(f"  step {report.step}: {report.values()}", flush=True)
    return system.eval()


def longer(prompts: Sequence[str]) -> list[str]:
    """Prompts in the style of careful captions."""
    return [expanded(prompt, i, places=("centre",)) for i, prompt in enumerate(prompts)]


def told(system: DALLE, count: int) -> dict[str, Faith]:
    """How faithful it is to short prompts as they are, to the same expanded, and to those of others."""
    real, prompts = scenes("test", count, SIZE)
    plain, wide = drawn(system, prompts), drawn(system, longer(prompts))
    control: Tensor = plain.roll(1, 0)
    pictures = {"as they are": plain, "expanded": wide, "control: of others": control}
    return {name: judge(pixels, prompts, real) for name, pixels in pictures.items()}


def main() -> None:
    """Train three times, and print a line a question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first_stage")
    parser.add_argument("captioner")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--pool", type=int, default=POOL)
    given = parser.parse_args()
    setup()
    first_stage, captioner = (load(run, precision="fp32") for run in (given.first_stage, given.captioner))
    for split in ("test", "held"):
        print(f"captions right to the word, {split}: {right_words(captioner, split, 1000):.3f}", flush=True)
    alt, true = (captions_of(pool(level, given.pool)) for level in ("noisy", "full"))
    said = described(captioner, pool("noisy", given.pool))
    sources = {"alt text": alt, "captioner, 95 %": mixed(alt, said), "true captions": true}
    for name, captions in sources.items():
        print(name, flush=True)
        for prompts, faith in told(taught(captions, first_stage, given.steps), given.count).items():
            print(f"  {prompts}: {faith}", flush=True)


if __name__ == "__main__":
    main()
