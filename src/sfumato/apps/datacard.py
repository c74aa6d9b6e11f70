"""What a curated data set says of itself: statistics, and the card that comes with it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_COUNTED = ("language", "nsfw")
_MEASURED = ("similarity", "aesthetic", "punsafe", "width", "height")


def measured(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Languages and safety tags counted, and quantiles of what is a number.

    >>> measured([{"language": "en", "nsfw": "unlikely", "width": w} for w in (10, 20, 30)])["quantiles"]
    {'width': {'0.0': 10.0, '0.05': 10.0, '0.25': 10.0, '0.5': 20.0, '0.75': 30.0, '0.95': 30.0, '1.0': 30.0}}
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
    numbers = {name: array("d") for name in _MEASURED}
    for row in rows:
        for name, counter in counts.items():
            counter[row[name]] += 1
        for name, values in numbers.items():
            if name in row:
                values.append(row[name])
    quantiles = {}
    for name, values in numbers.items():
        ordered = sorted(values)
        if ordered:
            quantiles[name] = {str(q): ordered[round(q * (len(ordered) - 1))] for q in QUANTILES}
    return {name: dict(counter.most_common()) for name, counter in counts.items()} | {"quantiles": quantiles}


_CARD = """\
# {kept} pictures with texts

Curated by sfumato {version} into {shards}. `curation.json` has every number and setting,
`dropped.jsonl` everything that was left out. A key depends on picture and text alone.

| of {found} found, left out because | |
|---|---|
{dropped}

Matched by: {clip}.
Languages: {languages}.

**Not checked by anybody:** rights (`licence` is what a page says of itself, mostly nothing), the consent of
people shown, and the pictures themselves: safety tags come from {safety}.
Do not publish this, or train for others on it, without looking at it.
"""


def card(told: Mapping[str, Any]) -> str:
    """A page that says what the data set is, what was left out, and what nobody has checked."""
    settings, shards = told["settings"]["examination"], len(told["shards"])
    words = "words in texts and addresses alone"
    return _CARD.format(
        kept=f"{told['kept']:,}",
        version=told["sfumato"],
        shards=f"{shards} WebDataset shard{'' if shards == 1 else 's'}",
        found=f"{told['found']:,}",
        dropped="\n".join(f"| {reason} | {count:,} |" for reason, count in told["dropped"].items()),
        clip=settings["clip"] or "nothing, so texts may not belong to their pictures",
        languages=", ".join(f"{code} {count:,}" for code, count in told["language"].items()) or "none",
        safety="words in texts and addresses and a linear head" if settings["unsafe"] else words,
    )
