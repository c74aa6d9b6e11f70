"""AttentionHTR: its losses by hand, its answers against its networks, its framing, and what it takes over."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from sfumato.core.request import Progress, Read, Text
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.data.frame import framed
from sfumato.errors import DataError, UsageError
from sfumato.nn.tps import TPSConfig
from sfumato.nn.word_reader import BLANK, END, GO, ReaderConfig
from sfumato.nn.word_resnet import WordResNetConfig
from sfumato.systems.reading.htr import AttentionHTR, HTRConfig, shaken, told

NETWORK = ReaderConfig(
    width=60,
    tps=TPSConfig(points=6, width=2, hidden=5, upright=True, align_corners=False),
    resnet=WordResNetConfig(16, (1, 1, 1, 1)),
    hidden=6,
)
CONFIG = HTRConfig(NETWORK, characters="abcde", longest=5)
TEXTS = ["bad", "e", "Added"]
X = torch.rand(3, 1, 32, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1
X[:, :, [0, -1]] = X[..., [0, -1]] = 0.9


def system(config: HTRConfig = CONFIG) -> AttentionHTR:
    torch.manual_seed(4)
    return AttentionHTR(config).eval()


def batch(x: Tensor = X, texts: list[str] = TEXTS, **more: Tensor) -> Batch:
    return Batch({"image": x, "text": texts, **more}, Rng.training(0, 0, range(len(x))))


def answer(reader: AttentionHTR, x: Tensor, beam: int = 1) -> Text:
    *steps, result = reader.run(Read(images=x, count=len(x), beam=beam))
    assert all(isinstance(step, Progress) for step in steps)
    assert isinstance(result, Text)
    return result


def test_the_decoder_is_told_what_stood_before_each_letter():
    letters = torch.tensor([[3, 2, 5, 0], [6, 0, 0, 0]])
    before, after = told(letters, torch.tensor([3, 1]))
    assert before.tolist() == [[GO, 3, 2, 5, 0], [GO, 6, 0, 0, 0]]
    assert after.tolist() == [[3, 2, 5, END, 0], [6, END, 0, 0, 0]]


def test_the_decoders_loss_is_the_cross_entropy_of_letters_and_end():
    reader = system()
    [loss] = reader.losses(batch(), 0)
    values = []
    for i, word in enumerate((["b", "a", "d"], ["e"], ["a", "d", "d", "e", "d"])):
        numbers = torch.tensor([2 + "abcde".index(c) for c in word])
        logits = reader.network(X[i : i + 1], pad(numbers, (1, 0))[None]).letters[0]
        values.append(cross_entropy(logits, pad(numbers, (0, 1), value=END), reduction="none"))
    assert torch.allclose(loss.value, torch.cat(values).mean(), atol=1e-5)
    assert loss.parts.keys() == {"letters"}


def by_all_paths(logs: Tensor, word: list[int]) -> Tensor:
    """Logarithm of the probability of all paths that spell a word, by the recursion of Graves et al. 2006."""
    states = [BLANK]
    for letter in word:
        states += [letter, BLANK]
    alpha = [logs[0, states[0]], logs[0, states[1]]] + [torch.tensor(-torch.inf)] * (len(states) - 2)
    for t in range(1, len(logs)):
        new = []
        for s, state in enumerate(states):
            from_where = [alpha[s]] + ([alpha[s - 1]] if s else [])
            if s > 1 and state != BLANK and state != states[s - 2]:
                from_where.append(alpha[s - 2])
            new.append(torch.stack(from_where).logsumexp(0) + logs[t, state])
        alpha = new
    return torch.stack(alpha[-2:]).logsumexp(0)


@pytest.mark.parametrize("head", ["ctc", "attention"])
def test_ctc_counts_all_paths_alone_or_as_a_guide(head):
    reader = system(replace(CONFIG, network=replace(NETWORK, head=head, guide=0.25)))
    [loss] = reader.losses(batch(), 0)
    said = reader.network(X, torch.zeros(3, 1, dtype=torch.long))
    values = []
    for places, text in zip(said.places, ("bad", "e", "added"), strict=True):
        word = [1 + "abcde".index(c) for c in text]
        values.append(-by_all_paths(places.log_softmax(1), word) / len(word))
    weight = 1.0 if head == "ctc" else 0.25
    assert torch.allclose(loss.parts["places"], weight * torch.stack(values).mean(), atol=1e-4)
    assert loss.parts.keys() == ({"places"} if head == "ctc" else {"letters", "places"})


def test_a_word_that_cannot_be_placed_counts_nothing():
    reader = system(replace(CONFIG, network=replace(NETWORK, head="ctc", width=32), longest=6))
    [loss] = reader.losses(batch(X[:2, :, :, :32], ["aaaaaa", "bbbbbb"]), 0)
    assert loss.value == 0


def test_it_answers_what_its_decoder_spells():
    reader = system()
    found = reader.network.prediction.spell(reader.network.row(X), 5)
    result = answer(reader, X)
    assert list(result.texts) == reader.letters.decode(found.letters[:, 0])
    assert result.confidence == pytest.approx(found.logs[:, 0].exp().tolist())
    wide = answer(reader, X, beam=6)
    assert all(b >= a - 1e-6 for a, b in zip(result.confidence, wide.confidence, strict=True))


def test_without_an_end_no_letter_is_lost():
    reader = system()
    with torch.no_grad():
        reader.network.prediction.generator.bias.copy_(torch.tensor([0, -99.0, 0, 9, 0, 0, 0]))
    assert set(answer(reader, X).texts) == {"bbbbb"}


def test_ctc_strikes_out_repeats_and_blanks():
    reader = system(replace(CONFIG, network=replace(NETWORK, head="ctc")))
    path = [0, 2, 2, 0, 2, 1, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0]
    logits = torch.nn.functional.one_hot(torch.tensor([path]), 6).float() * 4
    reader.network.row = lambda x: torch.zeros(1, 16, 6)
    reader.network.prediction.register_forward_hook(lambda *_: logits)
    texts, sure = reader.read(X[:1])
    assert texts == ["bbae"]
    assert sure[0] == pytest.approx(float(logits.softmax(2).amax(2).prod()), rel=1e-4)
    result = answer(system(replace(CONFIG, network=replace(NETWORK, head="ctc"))), X, beam=3)
    assert result.notes == ("A reader with the head of CTC has no beam; it was ignored.",)


@pytest.mark.parametrize("stretch", [0.0, 1.0, 1.7])
def test_pictures_of_any_size_are_laid_into_the_frame(stretch):
    reader = system(replace(CONFIG, stretch=stretch))
    small = torch.nn.functional.interpolate(X[:1, :, ::4, ::4], (40, 44), mode="bicubic").clamp(-1, 1)
    direct = reader.read(framed(small, 32, 60, stretch).pixels)
    assert answer(reader, small).texts == tuple(direct[0])
    first = framed(small, 32, 60)
    [loss] = reader.losses(batch(first.pixels, ["bad"], extent=first.extent[None]), 0)
    [same] = reader.losses(batch(small, ["bad"]), 0)
    assert torch.allclose(loss.value, same.value, rtol=0.05)


def test_dark_paper_makes_no_difference():
    reader = system()
    ink = torch.full((2, 1, 32, 60), 0.7)
    ink[:, :, 8:20, 10:30] = torch.rand(2, 1, 12, 20) - 1
    assert answer(reader, ink) == answer(reader, -ink)


def test_shaking_keeps_the_word_and_follows_the_pictures_own_chance():
    paper = torch.full((64, 1, 32, 100), 0.8)
    paper[:, :, 10:20, 30:70] = -0.6
    moved = shaken(paper, Rng.training(0, 0, range(64)), 1.0)
    assert torch.equal(moved[5:9], shaken(paper[5:9], Rng.training(0, 0, range(5, 9)), 1.0))
    assert moved.amin((1, 2, 3)).max() < 0.2, "the ink stays dark"
    border = torch.cat([moved[:, 0, 0], moved[:, 0, -1], moved[:, 0, :, 0], moved[:, 0, :, -1]], 1)
    middle = (moved.amin((1, 2, 3)) + moved.amax((1, 2, 3))) / 2
    assert (border > middle[:, None]).float().mean() > 0.97, "no word is cut"
    high = (moved < middle[:, None, None, None]).any(3).sum(2)[:, 0].float()
    assert high.min() <= 11
    assert high.max() >= 20, "some are cut closer"
    assert torch.allclose(shaken(paper, Rng.training(0, 0, range(64)), 0.0), paper, atol=1e-5)


def test_it_goes_on_from_another_reader_letter_by_letter():
    base, reader = system(replace(CONFIG, characters="edcx")), system()
    with torch.no_grad():
        for p in base.parameters():
            nn.init.normal_(p)
    before = {name: p.clone() for name, p in reader.network.named_parameters()}
    reader.adopt(base)
    theirs = base.network.state_dict()
    rows, columns = "prediction.generator.weight", "prediction.attention_cell.rnn.weight_ih"
    for name, tensor in reader.network.state_dict().items():
        if name not in (rows, columns, "prediction.generator.bias"):
            assert torch.equal(tensor, theirs[name]), name
    mine, given = reader.network.state_dict()[rows], theirs[rows]
    assert torch.equal(mine[:2], given[:2])
    for letter in "abcde":
        row = mine[2 + "abcde".index(letter)]
        if letter in "edcx":
            assert torch.equal(row, given[2 + "edcx".index(letter)])
        else:
            assert torch.equal(row, before[rows][2 + "abcde".index(letter)])
    across, given = reader.network.state_dict()[columns], theirs[columns]
    assert torch.equal(across[:, :8], given[:, :8])
    assert torch.equal(across[:, 8 + "abcde".index("d")], given[:, 8 + "edcx".index("d")])
    assert torch.equal(across[:, 8], before[columns][:, 8])


def test_a_guide_is_no_hindrance_to_going_on():
    reader = system(replace(CONFIG, network=replace(NETWORK, guide=0.5)))
    reader.adopt(system())
    assert torch.equal(
        reader.network.prediction.generator.weight, system().network.prediction.generator.weight
    )


def test_it_fits_itself_to_data():
    facts = Facts("mine", 1, 24, 40, frozenset({"image", "text"}), characters="xyz")
    assert AttentionHTR.fit(HTRConfig(), facts).characters == "xyz"
    assert AttentionHTR.fit(CONFIG, facts).characters == "abcde"
    assert AttentionHTR.fit(CONFIG, replace(facts, channels=3)).network.channels == 3
    ctc = replace(CONFIG, network=replace(NETWORK, head="ctc"), longest=17)
    with pytest.raises(UsageError, match=r"have 16 places, too few for 17 letters; set --network\.width 68"):
        AttentionHTR.fit(ctc, facts)


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="at least 1 letter, got --longest 0"):
        AttentionHTR(replace(CONFIG, longest=0))
    with pytest.raises(UsageError, match="reads pictures of 1 channels, got 3; convert them first"):
        answer(system(), X.expand(-1, 3, -1, -1))
    with pytest.raises(DataError, match="a reader of its own shape, got a AttentionHTR that differs"):
        system().adopt(system(replace(CONFIG, network=replace(NETWORK, hidden=8))))
    with pytest.raises(UsageError, match="'deadbee' has 7 letters, and this reader learns words of up to 5"):
        next(system().losses(batch(X[:1], ["deadbeef"]), 0))
