"""T5's lesson: what is left out stands behind its mark, and nothing else is lost."""

from __future__ import annotations

import pytest
import torch

from sfumato.core.request import Generate
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.shapes.related import shape_stories
from sfumato.data.unigram import END, PAD, UnigramTokenizer
from sfumato.errors import UsageError
from sfumato.nn.t5 import T5Shape
from sfumato.systems.text.t5 import T5, T5Config, corrupted

CONFIG = T5Config(T5Shape(vocabulary=100, layers=1, decoder_layers=1, width=8, hidden=8), sentinels=10)


def test_a_text_and_what_was_left_out_make_the_text_again():
    for length in range(2, 40):
        text = [*range(3, 3 + length), END]
        for seed in range(5):
            asked, answer = corrupted(text, seed, CONFIG)
            assert asked[-1] == answer[-1] == END
            parts: dict[int, list[int]] = {}
            for token in answer[:-1]:
                if token >= 90:
                    parts[mark := token] = []
                else:
                    parts[mark].append(token)
            assert list(parts) == [99 - i for i in range(len(parts))], "marks fall from the last number"
            assert all(parts.values())
            whole = [t for token in asked[:-1] for t in parts.get(token, [token])]
            assert whole == text[:-1]
            out = sum(map(len, parts.values()))
            assert out == min(max(1, round(0.15 * length)), length - 1)


def test_a_text_too_short_to_leave_anything_out_stays_whole():
    assert corrupted([7, END], 0, CONFIG) == ([7, END], [99, END])


def test_it_answers_nothing_and_reads_words_of_its_data():
    facts = shape_stories("train", 24).facts
    system = T5(T5.fit(T5Config(T5Shape(layers=1, decoder_layers=1), UnigramTokenizer(length=30)), facts))
    said = system.config.tokenizer.encode(["at the top is a red star. a blue ring below a red star."])
    assert said.dropped.tolist() == [0]
    assert system.config.network.vocabulary == len(system.config.tokenizer.pieces) + 100
    assert (said.tokens == PAD).any()
    with pytest.raises(UsageError, match="answers no requests; others read with it"):
        system.run(Generate())


def test_it_learns_from_no_token_of_an_empty_place():
    """The loss of a short text is the same beside a long one."""
    torch.manual_seed(0)
    system = T5(CONFIG)
    short, long = [5, 6, 7, 8, 9, END], [*range(10, 40), END]
    rows = torch.zeros(2, 31, dtype=torch.long)
    rows[0, :6], rows[1] = torch.tensor(short), torch.tensor(long)

    @torch.no_grad()
    def nats(ids: torch.Tensor, rng: Rng) -> tuple[float, int]:
        seeds = Rng(rng.seeds).integers(0, 2**31).tolist()
        answers = [
            corrupted([t for t in row if t], s, CONFIG)[1] for row, s in zip(ids.tolist(), seeds, strict=True)
        ]
        return float(next(system.losses(Batch({"ids": ids}, rng), 0)).value), sum(map(len, answers))

    (a, n), (b, m), (both, _) = nats(rows[:1], Rng([1])), nats(rows[1:], Rng([2])), nats(rows, Rng([1, 2]))
    assert both == pytest.approx((a * n + b * m) / (n + m), rel=1e-5)
