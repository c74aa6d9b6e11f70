"""Your own pictures: a folder of painted sunsets, a minute of training, and sunsets nobody painted."""

import random
from pathlib import Path

import tyro
from PIL import Image, ImageDraw

import sfumato


def paint_sunset(file: Path, dice: random.Random) -> None:
    picture, x, height = Image.new("RGB", (48, 48)), dice.uniform(8, 40), dice.uniform(-4, 22)
    pen = ImageDraw.Draw(picture)
    for y in range(48):
        glow, light = 1 - abs(y - 30) / 30, 1 if y < 30 else 0.5  # the sea is the sky's dark mirror
        pen.line((0, y, 48, y), tuple(int(light * c) for c in (60 + 195 * glow, 40 + 100 * glow, 110)))
    pen.chord((x - 7, 23 - height, x + 7, 37 - height), 180, 360, (255, 235, 160))
    picture.save(file)


def main(steps: int = 300, paintings: int = 100, out: Path = Path("sunsets")) -> None:
    """Paint, train, generate. With pictures of your own the last two lines are enough."""
    (out / "photos").mkdir(parents=True)
    for number in range(paintings):
        paint_sunset(out / "photos" / f"{number}.png", random.Random(number))
    sfumato.train("ddpm", "laptop", data=out / "photos", out=out / "run", steps=steps, batch=16)
    print(*sfumato.generate(sfumato.Generate(count=16), model=out / "run").save(out), sep="\n")


if __name__ == "__main__":
    tyro.cli(main)
