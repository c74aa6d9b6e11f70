"""The networks of a reader: the published sizes, equations by hand, and a search that finds the likeliest."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from sfumato.errors import UsageError
from sfumato.nn.recurrent import AttentionDecoder, BiLSTM
from sfumato.nn.tps import TPSConfig
from sfumato.nn.word_reader import END, GO, Reader, ReaderConfig
from sfumato.nn.word_resnet import WordResNet, WordResNetConfig


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def decoder(classes: int = 5) -> AttentionDecoder:
    torch.manual_seed(3)
    built = AttentionDecoder(6, 7, classes)
    for p in built.parameters():
        nn.init.normal_(p, std=0.7)
    return built.requires_grad_(False)


@pytest.mark.parametrize(("classes", "parameters"), [(96, 49_629_480), (38, 49_555_182)])
def test_the_published_networks_have_their_published_size(classes, parameters):
    with torch.device("meta"):
        network = Reader(ReaderConfig(), classes)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_published_network_makes_26_places_of_32_by_100_pixels():
    network = WordResNet(1, WordResNetConfig(16)).eval()
    assert network(noise(2, 1, 32, 100)).shape == (2, 26, 16)
    assert network(noise(1, 1, 37, 65)).shape == (1, 17, 16)
    reader = ReaderConfig(
        width=100, resnet=WordResNetConfig(16, (1, 1, 1, 1)), transformation="none", hidden=4
    )
    assert Reader(reader, 5).places == 26


def test_what_stands_left_comes_first_in_the_row():
    network = WordResNet(1, WordResNetConfig(16, (1, 1, 1, 1))).eval()
    x = noise(1, 1, 32, 200)
    other = x.clone()
    other[..., 150:] = 0
    changed = (network(x) - network(other)).abs().amax((0, 2)) > 1e-5
    assert not changed[:25].any()
    assert changed[40:].all()


def test_two_lstms_read_both_ways():
    torch.manual_seed(0)
    both = BiLSTM(3, 4, 5)
    row = noise(2, 6, 3)
    ahead, back = nn.LSTM(3, 4, batch_first=True), nn.LSTM(3, 4, batch_first=True)
    state = both.rnn.state_dict()
    ahead.load_state_dict({k: v for k, v in state.items() if "reverse" not in k})
    back.load_state_dict({k.removesuffix("_reverse"): v for k, v in state.items() if "reverse" in k})
    said = torch.cat([ahead(row)[0], back(row.flip(1))[0].flip(1)], 2)
    assert torch.allclose(both(row), both.linear(said), atol=1e-6)


def test_the_decoder_follows_its_equations():
    """e = v tanh(W h + V s + b), a = softmax e, s' = LSTM([sum a h; one-hot y], s), y' = U s'."""
    cell, spells, row = decoder().attention_cell, decoder(), noise(2, 9, 6)
    letters = torch.tensor([[0, 2, 4], [0, 3, 1]])
    said, kept, wanted = torch.zeros(2, 7), torch.zeros(2, 7), []
    for t in range(3):
        e = torch.stack(
            [
                torch.tanh(cell.i2h.weight @ row[b, i] + cell.h2h.weight @ said[b] + cell.h2h.bias)
                @ cell.score.weight[0]
                for b in range(2)
                for i in range(9)
            ]
        ).view(2, 9)
        a = torch.exp(e) / torch.exp(e).sum(1, keepdim=True)
        x = torch.cat([(a[:, :, None] * row).sum(1), torch.eye(5)[letters[:, t]]], 1)
        gates = x @ cell.rnn.weight_ih.T + cell.rnn.bias_ih + said @ cell.rnn.weight_hh.T + cell.rnn.bias_hh
        i, f, g, o = gates.chunk(4, 1)
        kept = f.sigmoid() * kept + i.sigmoid() * g.tanh()
        said = o.sigmoid() * kept.tanh()
        wanted.append(spells.generator(said))
    assert torch.allclose(spells(row, letters), torch.stack(wanted, 1), atol=1e-5)
    looks = spells.looks(row, letters)
    assert looks.shape == (2, 3, 9)
    assert torch.allclose(looks.sum(2), torch.ones(2, 3), atol=1e-6)


def test_spelling_without_a_beam_takes_the_likeliest_letter():
    spells, row = decoder(), noise(3, 8, 6)
    found = spells.spell(row, 6)
    for b in range(3):
        letters, log = [], 0.0
        while len(letters) < 7 and END not in letters:
            before = torch.tensor([[GO, *letters]])
            logs = spells(row[b : b + 1], before)[0, -1].log_softmax(0)
            logs[GO] = -torch.inf
            letters.append(int(logs.argmax()))
            log += float(logs.max())
        ends = (letters + [END] * 6)[:6]
        assert (found.letters[b, 0].tolist() + [END] * 6)[:6] == ends
        assert found.logs[b, 0].item() == pytest.approx(log, abs=1e-4)


def test_a_wide_beam_finds_the_likeliest_of_all_readings():
    spells, row, longest = decoder(4), noise(2, 8, 6, seed=5), 3
    found = spells.spell(row, longest, beam=4**4)
    for b in range(2):
        best: dict[tuple[int, ...], float] = {}
        for letters in itertools.product((2, 3), repeat=longest + 1):
            for length in range(longest + 2):
                word = letters[:length] + ((END,) if length <= longest else ())
                logs = spells(row[b : b + 1], torch.tensor([[GO, *word[:-1]]]))[0].log_softmax(1)
                best[word] = sum(float(logs[t, letter]) for t, letter in enumerate(word))
        word = max(best, key=lambda key: best[key])
        read = [n for n in found.letters[b, 0].tolist() if n > END]
        assert read == [n for n in word[:longest] if n > END]
        assert found.logs[b, 0].item() == pytest.approx(best[word], abs=1e-4)
        assert found.logs[b, 0] >= spells.spell(row, longest).logs[b, 0] - 1e-5


def test_a_beam_does_not_mix_pictures():
    spells, row = decoder(), noise(3, 8, 6)
    together = spells.spell(row, 5, beam=3)
    for b in range(3):
        alone = spells.spell(row[b : b + 1], 5, beam=3)
        width = alone.letters.shape[2]
        assert torch.equal(together.letters[b, 0, :width], alone.letters[0, 0])
        assert torch.allclose(together.logs[b], alone.logs[0], atol=1e-5)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(
        UsageError, match=r"pictures of 32 x 32 pixels or more, got 24 x 80; set --network\.height"
    ):
        Reader(ReaderConfig(height=24, width=80), 9)
    with pytest.raises(UsageError, match="multiples of 16, got 24"):
        WordResNet(1, WordResNetConfig(24))
    with pytest.raises(UsageError, match="at least one residual block, got 0"):
        WordResNet(1, WordResNetConfig(16, (1, 0, 1, 1)))


def test_every_part_learns_under_bf16():
    tps = TPSConfig(points=6, width=2, hidden=4, upright=True)
    network = Reader(ReaderConfig(tps=tps, resnet=WordResNetConfig(16, (1, 1, 1, 1)), hidden=4, guide=0.5), 6)
    nn.init.normal_(network.transformation.LocalizationNetwork.localization_fc2.weight, std=0.01)
    with torch.autocast("cpu", torch.bfloat16):
        said = network(noise(2, 1, 32, 100), torch.tensor([[0, 3], [0, 4]]))
    (said.letters.float().square().mean() + said.places.float().square().mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert not [name for name, p in network.named_parameters() if not p.grad.any()]
