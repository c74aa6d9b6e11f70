"""How well ``sfumato curate`` tells true texts from false ones, finds copies, and what training gains by it.

    python -m benchmarks.curation copies    shares of copies found and of others taken for copies, by world
    python -m benchmarks.curation match     a web of known truth, filtered by a CLIP trained on other pictures
    python -m benchmarks.curation train     a text GAN on the filtered half against one on a random half
    python -m benchmarks.curation pace      pictures a second with one and with two workers

The later ones build on the earlier; all is kept in --out and not done twice.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import sfumato
from benchmarks.textgans import ask
from benchmarks.web import Told, build
from sfumato.apps.cli import main as sfumato_command
from sfumato.data.dedup import Looks, look
from sfumato.data.faces import Faces
from sfumato.data.photos import Photos
from sfumato.data.shapes import OneShape, Shapes
from sfumato.device import setup
from sfumato.images import open_image, to_pil

WORLDS = {"photographs": Photos, "faces": Faces, "shapes": Shapes, "one shape": OneShape}
SIDE = 128
"""Pixels a side of originals; copies have 64, the least that curation keeps by default, to 192."""
CLIP = {"network.vision.patch": 4, "network.vision.layers": 3, "network.text.layers": 2}
"""A CLIP for one shape in 32 x 32 pixels: patches of 4 pixels, fewer layers."""
CLIP_STEPS, CLIP_BATCH, GAN_STEPS, HALF = 300, 64, 500, 0.5


def jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def copies(count: int) -> None:
    """Copies made smaller or larger (half to one and a half) and of JPEG quality 40 to 90, of a quarter."""
    for world, kind in WORLDS.items():
        dice, data = np.random.default_rng(0), kind("train", SIDE, length=count)
        originals = [to_pil(x) for i in range(count) for x in data.batch(torch.tensor([i]))["image"]]
        found, seen, wrong = 0, Looks(), 0
        for picture in originals:
            one = seen_of(jpeg(picture, int(dice.integers(75, 96))))
            wrong += seen.find(one) is not None
            seen.add(one)
        for number in range(count // 4):
            side = round(SIDE * float(dice.choice((0.5, 0.75, 1.0, 1.5))))
            method = Image.Resampling(int(dice.choice((Image.Resampling.BILINEAR, Image.Resampling.BICUBIC))))
            copy = jpeg(originals[number].resize((side, side), method), int(dice.integers(40, 91)))
            found += seen.find(seen_of(copy)) is not None
        print(
            f"{world:<12} copies found {found / (count // 4):.3f} (n {count // 4}), "
            f"others taken for copies {wrong / count:.4f} (n {count})",
            flush=True,
        )


def seen_of(data: bytes):
    size = Image.open(io.BytesIO(data)).size
    return look(open_image(io.BytesIO(data), at_least=(64, 64)), size)


def curated(web: Path, out: Path, *options: str) -> dict:
    if not (out / "curation.json").exists():
        words = ["curate", str(web), "--out", str(out), "-q", "--workers", "1", *options]
        assert sfumato_command(words) == 0
    return json.loads((out / "curation.json").read_text())


def clip_of(out: Path) -> Path:
    """A CLIP of one shape, trained on scenes that the web does not hold."""
    run = out / "clip"
    if not (run / "model.safetensors").exists():
        sfumato.train(
            "clip", "laptop", data="one-shape", size=32, steps=CLIP_STEPS, batch=CLIP_BATCH, settings=CLIP,
            out=run, quiet=True,
        )  # fmt: skip
    return run


def records(folder: Path) -> dict[str, dict]:
    lines = (line for path in sorted((folder / ".work/records").glob("*")) for line in path.open())
    return {record["address"]: record for record in map(json.loads, lines)}


def match(out: Path, count: int) -> None:
    """AUC of the cosine, precision where nine in ten true pairs are kept, and copies in the pipeline."""
    truth = build(out / "web", count)
    told = curated(out / "web", out / "half", "--clip", str(clip_of(out)), "--keep-best", str(HALF))
    scored = {a: r["similarity"] for a, r in records(out / "half").items() if "similarity" in r}
    by_kind = {k: [s for a, s in scored.items() if truth[a].kind == k] for k in ("true", "false")}
    true, false = (np.array(by_kind[k]) for k in ("true", "false"))
    print(f"web: {dict(Counter(told.kind for told in truth.values()))}")
    print(f"cosines: true {spread(true)}, false {spread(false)}")
    print(f"AUC {auc(true, false):.4f} (n {len(true)} true, {len(false)} false)")
    least = np.quantile(true, 0.1)
    kept = (true >= least).sum(), (false >= least).sum()
    control = len(true) / (len(true) + len(false))
    print(f"precision at recall .9: {kept[0] / sum(kept):.3f} (control, all kept: {control:.3f})")
    print(f"kept {told['kept']} of {told['found']}, dropped {told['dropped']}")
    kinds = Counter(truth[row["url"]].kind for row in rows(out / "half"))
    print(f"kept are {dict(kinds)}")
    _copies_in(out, truth)


def _copies_in(out: Path, truth: dict[str, Told]) -> None:
    """Without the CLIP, so that every copy meets its original."""
    curated(out / "web", out / "all")
    dropped = [json.loads(line) for line in (out / "all/dropped.jsonl").open()]
    taken = {d["address"]: d["of"] for d in dropped if d["reason"].startswith("copy")}
    kept = {row["url"]: row["key"] for row in rows(out / "all")}
    copied = [(a, told.of) for a, told in truth.items() if told.kind == "copy"]
    pairs = [pair for pair in copied if {*pair} <= taken.keys() | kept.keys()]
    found = sum(not {*pair} <= kept.keys() for pair in pairs)
    doubled = {of for _, of in pairs}
    alone = [a for a, told in truth.items() if told.kind in ("true", "false") and a not in doubled]
    alone = [a for a in alone if a in taken or a in kept]
    by_key = {key: truth[address].scene for address, key in kept.items()}
    alike = [same_scene(truth[a].scene, by_key[taken[a]]) for a in alone if taken.get(a) in by_key]
    print(f"copies found {found / len(pairs):.3f} (n {len(pairs)})")
    print(
        f"others taken for copies of another scene {alike.count(False) / len(alone):.4f}, "
        f"of the same scene moved a little {alike.count(True) / len(alone):.4f} (n {len(alone)})"
    )


def same_scene(one: int, other: int) -> bool:
    """Whether two pictures of the web show the same shape, colour, size and ground."""
    scenes = OneShape("train", SIDE, length=max(one, other) + 1).scenes(torch.tensor([one, other]))
    parts = (getattr(scenes, name) for name in ("shape", "colour", "size", "background"))
    return all(bool((part[0] == part[1]).all()) for part in parts)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(folder.glob("0*.jsonl")) for line in path.open()]


def auc(high: np.ndarray, low: np.ndarray) -> float:
    """Chance that a value of the first kind is above one of the second; ties count half."""
    below = np.searchsorted(np.sort(low), high, "left") + np.searchsorted(np.sort(low), high, "right")
    return float(below.mean() / 2 / len(low))


def spread(values: np.ndarray) -> str:
    return f"{statistics.fmean(values):.3f} +- {statistics.stdev(values):.3f}"


def train(out: Path, count: int, questions: int) -> None:
    """The same GAN, steps and seed on equally many pictures; fresh captions, read by the oracle."""
    match(out, count)
    half = json.loads((out / "half/curation.json").read_text())["kept"]
    random = out / "random"
    if not random.exists():
        # Keys are hashes: the first shard of all pairs is a random sample of them.
        curated(out / "web", out / "by-half", "--shard-size", str(half))
        random.mkdir()
        shutil.copy(out / "by-half/000000.tar", random)
    for name in ("half", "random"):
        run = out / f"gan-{name}"
        if not (run / "model.safetensors").exists():
            begun = time.process_time()
            sfumato.train(
                "stackgan", "laptop", data=out / name, size=32, steps=GAN_STEPS, out=run, quiet=True
            )  # fmt: skip
            print(f"{name}: {time.process_time() - begun:.0f} core-seconds of training", flush=True)
        system = sfumato.load(run)
        print(f"{name:<7} fresh captions  {ask(system, 'test', questions)}")
        print(f"{name:<7} shuffled        {ask(system, 'test', questions, shuffled=True)}", flush=True)


def pace(out: Path, count: int, rounds: int) -> None:
    """Examining alone, workers started before; median of rounds."""
    from sfumato.apps.curate import Options, curation_of
    from sfumato.apps.curation import examine_block
    from sfumato.apps.scale import Local

    build(out / "web", count)
    for clip in ("", str(clip_of(out))):
        for workers in (1, 2):
            speeds = []
            with Local(workers) as local:
                for turn in range(rounds + 1):
                    shutil.rmtree(out / "pace", ignore_errors=True)
                    curation = curation_of(Options(source=out / "web", out=out / "pace", clip=clip))
                    curation.begin()
                    listed = curation.list_pairs()
                    begun = time.monotonic()
                    for _ in local.each(examine_block, curation, range(listed.blocks)):
                        pass
                    if turn:  # the first one starts workers and loads what they need
                        speeds.append(listed.pairs / (time.monotonic() - begun))
            what = f"{'with' if clip else 'without'} CLIP, {workers} workers"
            told = f"{statistics.median(speeds):.0f} ({min(speeds):.0f} to {max(speeds):.0f})"
            print(f"{what}: {told} pictures a second, {rounds} rounds", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("copies", "match", "train", "pace"))
    parser.add_argument("--out", type=Path, default=Path("out/curation"))
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    setup()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "copies":
        copies(given.pictures)
    elif given.what == "match":
        match(given.out, given.pictures)
    elif given.what == "train":
        train(given.out, given.pictures, given.questions)
    else:
        pace(given.out, given.pictures, given.rounds)


if __name__ == "__main__":
    main()
