"""What leads GLIDE best on shapes: nothing, a CLIP that sees through noise, or guidance without a classifier.

    python -m benchmarks.glide runs/glide

Each way draws the same captions from the same noise; several scales are tried for each. Then holes are
filled in real pictures: how often what comes out is of the world and what was asked for, beside the mean of
the rest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

import sfumato
from benchmarks.imagen import FIRST_SCENE, FIRST_SEED, Related, captions_of, drawn, related
from sfumato.core.request import Edit, Images
from sfumato.data.shapes.related import RelatedShapes
from sfumato.device import setup
from sfumato.metrics.validity import Validity, validity
from sfumato.systems.diffusion.glide import GLIDE

WORDS = (1.0, 2.0, 3.0, 5.0)
CLIP = (1.0, 3.0, 10.0)


def led_by_clip(system: GLIDE) -> GLIDE:
    """The same weights, led by the CLIP."""
    other = GLIDE(replace(system.config, led_by="clip")).eval().to(system.device, system.dtype)
    other.load_state_dict(system.state_dict())
    return other


def ways(system: GLIDE, count: int) -> dict[str, Related]:
    """Unguided, and each way at each of its scales."""
    captions = captions_of(count)
    clip = led_by_clip(system)
    told = {
        f"words, scale {s:g}" if s != 1 else "unguided": related(
            drawn(system, captions, guidance=s), captions
        )
        for s in WORDS
    }
    return told | {f"CLIP, scale {s:g}": related(drawn(clip, captions, guidance=s), captions) for s in CLIP}


def holes(system: GLIDE, count: int) -> dict[str, tuple[Related, Validity, float]]:
    """The lower right two thirds of real pictures painted anew; the largest change outside comes last."""
    side = system.config.height
    data = RelatedShapes("test", side, length=FIRST_SCENE + count)
    batch = data.batch(torch.arange(FIRST_SCENE, FIRST_SCENE + count))
    images, captions = batch["image"], list(batch["caption"])
    mask = torch.zeros(1, 1, side, side)
    mask[:, :, side // 3 :, side // 3 :] = 1
    filled = torch.cat([_filled(system, images[i], mask, captions[i], i) for i in range(count)])
    outside = images * (1 - mask)
    mean = outside.sum((2, 3), keepdim=True) / (1 - mask).sum()
    blank = torch.where(mask > 0, mean.expand_as(images), images)
    return {
        name: (
            related(pixels, captions),
            validity(pixels),
            float(((pixels - images) * (1 - mask)).abs().max()),
        )
        for name, pixels in (("filled", filled), ("control: the mean of the rest", blank))
    }


def _filled(system: GLIDE, image: Tensor, mask: Tensor, caption: str, i: int) -> Tensor:
    request = Edit(prompt=caption, images=image[None], mask=mask, count=1, seed=FIRST_SEED + i)
    *_, answer = system.run(request)
    assert isinstance(answer, Images)
    return answer.pixels.float().cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--holes", type=int, default=96)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    given = parser.parse_args()
    setup()
    for name in given.runs:
        system = sfumato.load(name, precision=given.precision, device="cpu")
        assert isinstance(system, GLIDE)
        for way, figures in ways(system, given.count).items():
            _tell(name, way, [figures._asdict()])
        for way, (kept, valid, change) in holes(system, given.holes).items():
            _tell(name, f"hole, {way}", [kept._asdict(), valid._asdict(), {"change outside": change}])


def _tell(name: str, what: str, figures: Sequence[dict[str, float]]) -> None:
    told = {k: round(v, 4) for part in figures for k, v in part.items()}
    print(f"{name}: {what:<36} {json.dumps(told)}", flush=True)


if __name__ == "__main__":
    main()
