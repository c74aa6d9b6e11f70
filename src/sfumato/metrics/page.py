"""A report as one self-contained HTML page: pictures inside, no scripts, nothing fetched, light or dark."""

from __future__ import annotations

import base64
import io
from html import escape

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from sfumato.images import to_pil
from sfumato.metrics.results import Report, Row, number

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #24211e; --soft: #6d675f; --line: #e3ded6;
  --card: #ffffff; --good: #2f7d55; --bad: #b3402f; --mark: #8a6d3b; --track: #e9e4da; }
@media (prefers-color-scheme: dark) { :root { --paper: #171614; --ink: #ece7df; --soft: #a39b8f;
  --line: #34312c; --card: #1f1d1a; --good: #6cc394; --bad: #ef8a76; --mark: #d8b573; --track: #37332d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 ui-sans-serif, system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 3rem 1.25rem 4rem; }
h1 { font: 400 2.1rem/1.2 ui-serif, Georgia, "Times New Roman", serif; margin: 0 0 .35rem; }
h2 { font: 400 1.35rem/1.3 ui-serif, Georgia, "Times New Roman", serif; margin: 2.75rem 0 .75rem; }
p { margin: .4rem 0; max-width: 46rem; } .soft { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem; }
img { height: auto; image-rendering: pixelated; border-radius: .2rem; }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .35rem; }
"""
"""What all our pages have in common: colours by light and by dark, headings, cards."""

_STYLE = (
    STYLE
    + """
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(5.25rem, 1fr)); gap: .5rem; }
.sheet img { display: block; width: 100%; }
.scroll { overflow-x: auto; padding: .25rem 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .94rem; }
th, td { text-align: right; padding: .55rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 13rem; padding-left: 0; }
tbody tr:last-child td { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: .82rem; }
.track { position: relative; width: 7rem; height: .5rem; border-radius: .25rem; background: var(--track);
  display: inline-block; vertical-align: middle; }
.track i { position: absolute; top: -.2rem; width: .3rem; height: .9rem; margin-left: -.15rem;
  border-radius: .15rem; background: var(--mark); }
.good { color: var(--good); } .bad { color: var(--bad); } .good, .bad { font-weight: 600; }
.warn { border-left: .25rem solid var(--bad); padding: .1rem 0 .1rem .9rem; margin: 1rem 0; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr)); gap: 1rem; }
.pairs figure { margin: 0; } .pair { display: flex; gap: .5rem; }
.pair img { flex: 1; min-width: 0; }
dt { font-weight: 600; margin-top: .8rem; } dd { margin: 0; max-width: 46rem; color: var(--soft); }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); }
.soft + .pairs { margin-top: 1rem; }
@media (max-width: 44rem) { .track, .track-head { display: none; } .scroll { padding: .25rem .75rem; }
  th, td { padding: .5rem .35rem; }
  th:first-child, td:first-child { min-width: 9rem; } }
"""
)

_ASKS = (
    (
        "Frechet distance",
        "How far apart the two clouds of features lie, if each were a Gaussian. It falls as n grows: compare "
        "only at equal n and within one feature space. In Inception's space, and only there, it is FID.",
    ),
    ("Kernel distance", "The same question without assuming Gaussians, and without bias from n. 0 is best."),
    (
        "PSNR",
        "How near the answer comes to the picture that should have come, pixel by pixel, in decibels; 3 more "
        "halve the squared error. The control takes no learning.",
    ),
    ("SSIM", "Whether answer and wanted picture agree in light, contrast and structure; 1 for equal ones."),
    ("Precision", "The share of generated pictures that lie within the cloud of real ones."),
    ("Recall", "The share of real pictures that lie within the cloud of generated ones."),
    (
        "Nearest-neighbour ratio",
        "How far generated pictures lie from the training pictures, as against pictures the model has never "
        "seen. Near 1 is healthy; below 0.8 the model may be repeating its training set.",
    ),
    ("Accuracy of labels", "How often a classifier trained on real pictures reads the label asked for."),
    ("Classifier score", "Whether single pictures are clearly something and together many things."),
    ("Inception score", "Whether single pictures are clearly something and together many things."),
    ("Captions met in full", "How often an oracle finds everything the caption says, and nothing else."),
)


def page(report: Report) -> str:
    """The whole page as text; write it to a file ending in .html."""
    title = f"{report.model or 'Generated pictures'} on {report.data}"
    warnings = "".join(f'<p class="warn">{escape(text)}</p>' for text in report.warnings)
    sheet = "".join(_single(x, f"generated picture {i}") for i, x in enumerate(report.sheet, 1))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="soft">What was generated, beside what real pictures and a worthless imitation score.</p>
{warnings}
<h2>Generated pictures</h2>
<div class="card sheet">{sheet}</div>
{_answers(report)}
<h2>Measures</h2>
<div class="card scroll">{_table(report)}</div>
<h2>Nearest training pictures</h2>
<p class="soft">The generated pictures that come closest to the training set (left), each beside its nearest
training picture (right). If they are the same picture, the model has learned it by heart.</p>
<div class="pairs">{_pairs(report)}</div>
<h2>How to read this</h2>
<dl>{_words(report)}</dl>
</main>
</body>
</html>
"""


def _table(report: Report) -> str:
    gate = any(row.limit is not None for row in report.rows)
    last = "<th>asked</th>" if gate else ""
    names = ("measure", "value", '<span class="track-head">control to real</span>', "real", "control")
    head = "".join(f"<th>{name}</th>" for name in names) + f"{last}<th>n</th>"
    lines = "".join(_line(row, gate) for row in report.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _line(row: Row, gate: bool) -> str:
    spread = (
        ""
        if row.spread is None
        else f' <span class="soft" title="{escape(row.spread_of)}">± {number(row.spread)}</span>'
    )
    cells = [
        escape(row.metric),
        number(row.value) + spread,
        _track(row),
        number(row.real),
        number(row.control),
    ]
    if gate:
        cells.append(_verdict(row))
    cells.append(str(row.n))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _verdict(row: Row) -> str:
    if row.limit is None:
        return ""
    sign, kind = ("≤" if row.better == "low" else "≥"), ("good" if row.passed else "bad")
    word = "passed" if row.passed else "failed"
    return f'{sign} {number(row.limit)} <span class="{kind}">{word}</span>'


def _track(row: Row) -> str:
    """Where the value lies between the control, left, and real pictures, right."""
    if row.real is None or row.control is None or row.real == row.control:
        return ""
    share = min(1.0, max(0.0, (row.value - row.control) / (row.real - row.control)))
    words = f"{share:.0%} of the way from the control to real pictures"
    mark = f'<i style="left:{share:.1%}"></i>'
    return f'<span class="track" role="img" aria-label="{words}" title="{words}">{mark}</span>'


def _pairs(report: Report) -> str:
    pairs = report.pairs
    figures = zip(pairs.generated, pairs.training, pairs.distance.tolist(), strict=True)
    return "".join(
        f'<figure class="card"><div class="pair">{_single(new, "generated")}'
        f"{_single(old, 'nearest training picture')}</div>"
        f"<figcaption>distance {number(distance)}</figcaption></figure>"
        for new, old, distance in figures
    )


def _answers(report: Report) -> str:
    """What was given beside what came of it, a card each; nothing where nothing was given."""
    if not report.answers:
        return ""
    names = [name for name, _ in report.answers]
    cards = "".join(
        f'<figure class="card"><div class="pair">{"".join(map(_single, pictures, names))}</div></figure>'
        for pictures in zip(*(pixels for _, pixels in report.answers), strict=True)
    )
    return (
        f'<h2>Pictures for pictures</h2>\n<p class="soft">From left to right: {escape(", ".join(names))}.</p>'
        f'\n<div class="pairs wide">{cards}</div>'
    )


def _words(report: Report) -> str:
    metrics = " ".join(
        row.metric.replace("FID", "Frechet distance").replace("KID", "Kernel") for row in report.rows
    )
    return "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in _ASKS if name in metrics)


def _single(x: Float[Tensor, "c h w"], words: str) -> str:
    return _picture(to_pil(x), words)


def _picture(image: Image.Image, words: str) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    data = base64.b64encode(out.getvalue()).decode()
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img {size} alt="{escape(words)}" src="data:image/png;base64,{data}">'
