"""What latent diffusion hears: prompts, weighed and mixed, as conditions for its denoiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.compat.embedding import Word
from sfumato.core.generate import Generate, in_turn
from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.data.dataset import Facts, said_of
from sfumato.data.prompt import Piece, Tokenizer, mixture, rows_needed, spoken
from sfumato.data.text import WordTokenizer, left_out, vocabulary_of
from sfumato.errors import DataError, UsageError
from sfumato.nn.clip_pair import ClipPair, ClipPairConfig
from sfumato.nn.clip_text import ClipText, ClipTextConfig
from sfumato.nn.condition import Condition
from sfumato.nn.transformer import Words, WordsConfig

TextConfig = WordsConfig | ClipTextConfig | ClipPairConfig

BEAUTY, UGLINESS = 6.0, 2.5
"""Aesthetic scores that SDXL's refiner is told with the prompt and with the negative prompt."""


@dataclass(frozen=True)
class Heard:
    """What a denoiser is told for some pictures."""

    prompts: tuple[str, ...]
    conds: tuple[Condition, ...]
    """One for each prompt of the mixture that names most."""
    shares: tuple[Float[Tensor, "b 1 1 1"], ...]
    """How much each counts; they sum up to 1."""
    null: Condition
    notes: tuple[str, ...]
    """What was not understood."""

    def beside(self, spatial: Tensor | None, vector: Tensor | None) -> Heard:
        """The same, and with every condition what else there is to know."""

        def more(cond: Condition) -> Condition:
            return replace(cond, spatial=spatial, vector=cond.vector if vector is None else vector)

        return replace(self, conds=tuple(more(cond) for cond in self.conds), null=more(self.null))


class Reader:
    """A text tower, or two, with their tokenizers. The tower is the system's, which moves and saves it."""

    def __init__(self, text: nn.Module, tokenizers: Sequence[Tokenizer]):
        self.text, self.tokenizers = text, tuple(tokenizers)

    @classmethod
    def of(cls, config: TextConfig, tokenizers: Sequence[Tokenizer] = ()) -> Reader:
        """A new tower; CLIP's need ``tokenizers``, one of words brings its own."""
        match config:
            case WordsConfig():
                return cls(Words(config), [WordTokenizer(config.vocabulary, config.length)])
            case _ if not tokenizers:
                raise UsageError("CLIP's text tower needs its tokenizer; open the folder that holds both.")
            case ClipTextConfig():
                return cls(ClipText(config), tokenizers)
            case ClipPairConfig():
                return cls(ClipPair(config), tokenizers)

    def learn(self, word: Word) -> None:
        """Take in a word of textual inversion: each tower that has vectors for it then reads them."""
        taught, tokenizers = 0, list(self.tokenizers)
        for i, (name, tower) in enumerate(self._towers().items()):
            vectors = word.vectors.get(name, word.vectors.get(""))
            if vectors is None or vectors.shape[1] != tower.config.width:
                continue
            taught += 1
            table, tokenizer = tower.text_model.embeddings.token_embedding, tokenizers[i]
            assert isinstance(tokenizer, ClipTokenizer)
            numbers = range(len(table.weight), len(table.weight) + len(vectors))
            table.weight = nn.Parameter(
                torch.cat([table.weight, vectors.to(table.weight)]), requires_grad=table.weight.requires_grad
            )
            tokenizers[i] = tokenizer.knowing(word.text, numbers)
        if not taught:
            widths = sorted({v.shape[1] for v in word.vectors.values()})
            own = [tower.config.width for tower in self._towers().values()]
            raise DataError(
                f"The word '{word.text}' has vectors of width {', '.join(map(str, widths))}, but this model "
                f"reads {' and '.join(map(str, own)) or 'no vectors'}; it was made for another model."
            )
        self.tokenizers = tuple(tokenizers)

    def _towers(self) -> dict[str, ClipText]:
        """CLIP's towers by their names, in the order of their tokenizers."""
        towers = (
            dict(self.text.named_children())
            if isinstance(self.text, ClipPair)
            else {"text_encoder": self.text}
        )
        return {name: tower for name, tower in towers.items() if isinstance(tower, ClipText)}

    def said(self, batch: Mapping[str, Any], facts: Facts) -> Int[Tensor, "b m"]:
        """Tokens of the captions of a batch, or of the names of its classes."""
        return self.encode(said_of(batch, facts))

    def nothing(self) -> Int[Tensor, "1 m"]:
        """Tokens of the empty text."""
        return self.encode([""])

    def encode(self, texts: Sequence[str]) -> Int[Tensor, "n m"]:
        """Tokens for each tower, one after the other."""
        return torch.cat([tokenizer.encode(texts)[0] for tokenizer in self.tokenizers], 1)

    def read(self, ids: Int[Tensor, "n m"]) -> Condition:
        """What the tower makes of tokens: one vector a token, and perhaps one for the whole text."""
        said = self.text(ids.to(next(self.text.parameters()).device))
        if isinstance(self.text, ClipText):
            return Condition(tokens=said)
        tokens, pooled = said
        return Condition(tokens=tokens, vector=pooled)

    def hear(self, request: Generate, size: tuple[int, int]) -> Heard:
        """The conditions of a request for pictures of this height and width."""
        count = request.count
        given = (request.prompt,) if isinstance(request.prompt, str) else request.prompt
        prompts = in_turn(given, range(count))
        mixtures = [mixture(prompt) for prompt in prompts]
        most = max(len(parts) for parts in mixtures)
        columns = [
            [parts[k] if k < len(parts) else Piece("", 0.0) for parts in mixtures] for k in range(most)
        ]
        texts = list(dict.fromkeys(piece.text for column in columns for piece in column))
        said, notes = self._say([*texts, request.negative], request.chunked)
        places = {text: i for i, text in enumerate(texts)}
        conds = [said.take(torch.tensor([places[piece.text] for piece in column])) for column in columns]
        shares = [torch.tensor([piece.weight for piece in column]).view(-1, 1, 1, 1) for column in columns]
        null = said.take(torch.full((count,), len(texts)))
        if isinstance(self.text, ClipPair) and self.text.config.silent and not request.negative:
            null = null.silent()
        return Heard(
            tuple(prompts),
            tuple(self._placed(cond, request, size, request.aesthetic or BEAUTY) for cond in conds),
            tuple(share.to(_like(said)) for share in shares),
            self._placed(null, request, size, UGLINESS),
            notes,
        )

    def _placed(self, said: Condition, request: Generate, size: tuple[int, int], score: float) -> Condition:
        """With what SDXL is told of the picture besides (Podell et al. 2023, section 2.2)."""
        if not isinstance(self.text, ClipPair) or said.vector is None:
            return said
        frame = (*(request.original or size), *(request.crop or (0, 0)))
        last = size if self.text.config.numbers == "frame" else (score,)
        return replace(said, vector=self.text.vector(said.vector, [float(n) for n in (*frame, *last)]))

    def _say(self, texts: Sequence[str], chunked: bool) -> tuple[Condition, tuple[str, ...]]:
        """Texts as the tower reads them, weighed, and what it could not."""
        rows = max(rows_needed(tokenizer, texts) for tokenizer in self.tokenizers) if chunked else 1
        said = [spoken(tokenizer, texts, rows) for tokenizer in self.tokenizers]
        read = self.read(torch.cat([one.ids for one in said], 2).flatten(0, 1))
        tokens, vector, weights = read.tokens, read.vector, said[0].weights.flatten(1)
        assert tokens is not None
        tokens = tokens.unflatten(0, (-1, rows)).flatten(1, 2)
        if (weights != 1).any():
            tokens = self._weighed(tokens, weights, rows)
        if vector is not None:
            vector = vector.unflatten(0, (-1, rows))[:, 0]
        return Condition(tokens=tokens, vector=vector), left_out(texts, said[0].dropped)

    def _weighed(self, tokens: Tensor, weights: Tensor, rows: int) -> Tensor:
        """Each token as far as its weight says on the way from what an empty text has in its place: 0 unsays
        it, 1 is plain, more says it louder."""
        nothing = self.read(self.nothing()).tokens
        assert nothing is not None
        nothing = nothing.repeat(1, rows, 1)
        return nothing + weights.to(tokens)[:, :, None] * (tokens - nothing)


class Silent:
    """Reads nothing: for models that are told what to show by what lies beside the latents alone."""

    def __init__(self) -> None:
        self.text: nn.Module = nn.Module()

    def said(self, batch: Mapping[str, Any], facts: Facts) -> Int[Tensor, "b 0"]:
        """Nothing of each picture."""
        return torch.zeros(len(batch["image"]), 0, dtype=torch.long)

    def nothing(self) -> Int[Tensor, "1 0"]:
        """No tokens."""
        return torch.zeros(1, 0, dtype=torch.long)

    def read(self, ids: Tensor) -> Condition:
        """Nothing told."""
        return Condition()

    def hear(self, request: Generate, size: tuple[int, int]) -> Heard:
        """Nothing heard."""
        share = torch.ones(request.count, 1, 1, 1)
        return Heard(("",) * request.count, (Condition(),), (share,), Condition(), ())


def widths(config: TextConfig) -> tuple[int, int]:
    """Of what a tower makes of a whole text, 0 for nothing, and of each of its parts."""
    match config:
        case ClipTextConfig():
            return 0, config.width
        case ClipPairConfig():
            return config.vector, config.width
        case WordsConfig():
            return config.width, config.width


def knowing(config: WordsConfig, facts: Facts) -> WordsConfig:
    """A tower for the words of a dataset."""
    return replace(config, vocabulary=facts.words or vocabulary_of(facts.classes))


def _like(said: Condition) -> Tensor:
    assert said.tokens is not None
    return said.tokens
