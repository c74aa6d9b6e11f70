"""Recurrent layers: a network that reads a row both ways, and one that spells a word by looking along it.

Shi et al. 2016 (arXiv 1603.03915) and Baek et al. 2019 (arXiv 1904.01906, appendix B), whose names the
modules bear.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

State = tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]
"""Of an LSTM: what it says and what it remembers."""


class BiLSTM(nn.Module):
    """An LSTM from each side of a row; what both say is mixed at every place."""

    def __init__(self, wide: int, hidden: int, out: int):
        super().__init__()
        self.rnn = nn.LSTM(wide, hidden, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * hidden, out)

    def forward(self, row: Float[Tensor, "b l i"]) -> Float[Tensor, "b l o"]:
        said: Tensor = self.rnn(row)[0]
        mixed: Tensor = self.linear(said)
        return mixed


class AttentionCell(nn.Module):
    """One letter: look along the row, then move on (Bahdanau et al. 2015, arXiv 1409.0473)."""

    def __init__(self, wide: int, hidden: int, classes: int):
        super().__init__()
        self.i2h = nn.Linear(wide, hidden, bias=False)
        self.h2h = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.rnn = nn.LSTMCell(wide + classes, hidden)
        self.classes = classes

    def weights(self, keys: Float[Tensor, "n l d"], said: Float[Tensor, "n d"]) -> Float[Tensor, "n l"]:
        """Where along the row to look; they sum to 1."""
        scores = self.score(torch.tanh(keys + self.h2h(said)[:, None]))
        return scores[:, :, 0].float().softmax(1)

    def forward(
        self,
        row: Float[Tensor, "n l i"],
        keys: Float[Tensor, "n l d"],
        state: State,
        before: Int[Tensor, " n"],
    ) -> State:
        """The state after the letter ``before``; ``keys`` are ``i2h(row)``, the same at every step."""
        weights = self.weights(keys, state[0])
        seen = (weights[:, None].to(row.dtype) @ row)[:, 0]
        letter = one_hot(before, self.classes).to(row.dtype)
        said, kept = self.rnn(torch.cat([seen, letter], 1), state)
        return said, kept


class Reading(NamedTuple):
    """What was spelled, the best first."""

    letters: Int[Tensor, "b k t"]
    """Numbers of letters; what stands behind the end is the end's own number again."""
    logs: Float[Tensor, "b k"]
    """Logarithm of the probability of the whole reading, its end included."""


class AttentionDecoder(nn.Module):
    """Spells what stands in a row, letter by letter, from the number ``go`` to the number ``end``."""

    def __init__(self, wide: int, hidden: int, classes: int, *, go: int = 0, end: int = 1):
        super().__init__()
        self.attention_cell = AttentionCell(wide, hidden, classes)
        self.generator = nn.Linear(hidden, classes)
        self.hidden, self.classes, self.go, self.end = hidden, classes, go, end

    def _start(self, row: Tensor) -> tuple[Tensor, State]:
        zeros = row.new_zeros(len(row), self.hidden)
        return self.attention_cell.i2h(row), (zeros, zeros)

    def forward(self, row: Float[Tensor, "b l d"], letters: Int[Tensor, "b t"]) -> Float[Tensor, "b t k"]:
        """Logits of the letter after each of ``letters``, told what truly stood before it."""
        keys, state = self._start(row)
        said = []
        for before in letters.unbind(1):
            state = self.attention_cell(row, keys, state, before)
            said.append(state[0])
        logits: Tensor = self.generator(torch.stack(said, 1))
        return logits

    def looks(self, row: Float[Tensor, "b l d"], letters: Int[Tensor, "b t"]) -> Float[Tensor, "b t l"]:
        """Where it looks for the letter after each of ``letters``."""
        keys, state = self._start(row)
        weights = []
        for before in letters.unbind(1):
            weights.append(self.attention_cell.weights(keys, state[0]))
            state = self.attention_cell(row, keys, state, before)
        return torch.stack(weights, 1)

    @torch.no_grad()
    def spell(self, row: Float[Tensor, "b l d"], longest: int, beam: int = 1) -> Reading:
        """The likeliest readings of up to ``longest`` letters; 1 in the beam takes the likeliest letter.

        A reading that has not ended after so many letters stays as it is, without an end.
        """
        count, device = len(row), row.device
        keys, (said, kept) = self._start(row)
        letters = torch.empty(count, 1, 0, dtype=torch.long, device=device)
        logs = torch.zeros(count, 1, device=device)
        before = torch.full((count, 1), self.go, device=device)
        ended = torch.zeros(count, 1, dtype=torch.bool, device=device)
        for _ in range(longest + 1):
            wide = logs.shape[1]
            rows = torch.arange(count, device=device).repeat_interleave(wide)
            said, kept = self.attention_cell(row[rows], keys[rows], (said, kept), before.flatten())
            following = self.generator(said).float().log_softmax(1).view(count, wide, -1)
            following[:, :, self.go] = -torch.inf
            stay = torch.full_like(following, -torch.inf)
            stay[:, :, self.end] = 0
            following = torch.where(ended[:, :, None], stay, following)
            total = (logs[:, :, None] + following).flatten(1)
            logs, best = total.topk(min(beam, total.shape[1]), 1)
            source, before = best // self.classes, best % self.classes
            letters = torch.cat([_taken(letters, source), before[:, :, None]], 2)
            ended = _taken(ended, source) | (before == self.end)
            place = (torch.arange(count, device=device)[:, None] * wide + source).flatten()
            said, kept = said[place], kept[place]
            if bool(ended.all()):
                break
        return Reading(letters[:, :, :longest], logs)


def _taken(values: Tensor, source: Int[Tensor, "b k"]) -> Tensor:
    """Rows of each beam, chosen by number."""
    return values[torch.arange(len(values), device=values.device)[:, None], source]
