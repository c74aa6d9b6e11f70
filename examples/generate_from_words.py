"""Words become pictures, with the model that comes with the package."""

from pathlib import Path

import tyro

import sfumato

PROMPT = "a red circle above a blue square"


def main(prompt: str = PROMPT, model: str = "shapes", count: int = 4, out: Path = Path("out")) -> None:
    """Make a few pictures of one prompt and print where they lie."""
    wanted = sfumato.Generate(prompt=prompt, count=count, steps=20, guidance=3.0)
    pictures = sfumato.generate(wanted, model=model)
    # Each PNG knows how it was made, so that it can be made again: sfumato generate --from PNG
    for path in pictures.save(out):
        print(path)


if __name__ == "__main__":
    tyro.cli(main)
