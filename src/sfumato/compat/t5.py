"""T5 as transformers keeps it: ``config.json``, tensors, and ``tokenizer.json`` or ``spiece.model``."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.compat.part import Format, Keys, Weights, among, read_json, read_weights, write_weights
from sfumato.core.durable import write_json
from sfumato.data.unigram import END, MARKS, PAD, UnigramTokenizer
from sfumato.errors import DataError
from sfumato.nn.t5 import T5Shape

ENCODER, WHOLE = "T5EncoderModel", "T5ForConditionalGeneration"
FORMAT = Format("model", ignore=(r"(en|de)coder\.embed_tokens\.weight",))
"""Files repeat the table of words under two more names."""
READING = (r"decoder\..*", r"lm_head\.weight")
"""What a whole T5 has besides its encoder."""
KEYS = Keys(
    read={
        "vocab_size": 32128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_decoder_layers": None,
        "num_heads": 8,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": True,
    },
    meant={"model_type": ("t5",), "pad_token_id": (PAD,), "eos_token_id": (END,)},
    strict=False,
)
LONGEST = 256
"""Tokens of a text that Imagen reads (Saharia et al. 2022)."""


@dataclass(frozen=True)
class T5Folder:
    """What a folder holds."""

    shape: T5Shape
    tokenizer: UnigramTokenizer
    weights: Weights
    whole: bool
    """Whether the writing half is there."""

    @classmethod
    def read(cls, folder: Path) -> T5Folder:
        """A T5, or its encoder alone; the tokenizer lies beside it, or as in diffusers' pipelines in
        ``../tokenizer``."""
        config = read_json(folder / "config.json")
        shape = read_shape(config, str(folder / "config.json"))
        whole = WHOLE in (config.get("architectures") or [])
        form = FORMAT if whole else Format(FORMAT.stem, ignore=(*FORMAT.ignore, *READING))
        return cls(shape, read_tokenizer(folder), read_weights(folder, form), whole)

    def write(self, folder: Path) -> None:
        """A folder that transformers opens; the tokenizer as ``tokenizer.json``."""
        write_weights(self.weights, folder, FORMAT)
        write_json(folder / "config.json", write_shape(self.shape, whole=self.whole))
        write_json(folder / "tokenizer.json", write_tokenizer(self.tokenizer))
        write_json(
            folder / "tokenizer_config.json",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "pad_token": MARKS[0],
                "eos_token": MARKS[1],
                "unk_token": MARKS[2],
            },
        )


def read_shape(config: Mapping[str, Any], where: str) -> T5Shape:
    """The shape in transformers' words."""
    said = KEYS.of(config, where)
    among(where, said, "feed_forward_proj", ("relu", "gated-gelu"))
    return T5Shape(
        vocabulary=said["vocab_size"],
        width=said["d_model"],
        head_width=said["d_kv"],
        hidden=said["d_ff"],
        layers=said["num_layers"],
        decoder_layers=said["num_decoder_layers"] or said["num_layers"],
        heads=said["num_heads"],
        buckets=said["relative_attention_num_buckets"],
        farthest=said["relative_attention_max_distance"],
        eps=said["layer_norm_epsilon"],
        feed=said["feed_forward_proj"],
        tied=said["tie_word_embeddings"],
    )


def write_shape(shape: T5Shape, *, whole: bool) -> dict[str, Any]:
    """``config.json`` of a T5."""
    return {
        "architectures": [WHOLE if whole else ENCODER],
        "model_type": "t5",
        "vocab_size": shape.vocabulary,
        "d_model": shape.width,
        "d_kv": shape.head_width,
        "d_ff": shape.hidden,
        "num_layers": shape.layers,
        "num_decoder_layers": shape.decoder_layers,
        "num_heads": shape.heads,
        "relative_attention_num_buckets": shape.buckets,
        "relative_attention_max_distance": shape.farthest,
        "layer_norm_epsilon": shape.eps,
        "feed_forward_proj": shape.feed,
        "tie_word_embeddings": shape.tied,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "decoder_start_token_id": PAD,
    }


def read_tokenizer(folder: Path, length: int = LONGEST) -> UnigramTokenizer:
    """The tokenizer of a folder; ``DataError`` if there is none, or one of another kind."""
    for place in (folder, folder.parent / "tokenizer"):
        if (place / "tokenizer.json").is_file():
            return _of_json(place / "tokenizer.json", length)
        if (place / "spiece.model").is_file():
            return _of_sentencepiece(place / "spiece.model", length)
    raise DataError(
        f"'{folder}' has no tokenizer.json and no spiece.model, so no text can be read; fetch one of them."
    )


def _of_json(path: Path, length: int) -> UnigramTokenizer:
    model = read_json(path).get("model", {})
    if model.get("type") != "Unigram":
        raise DataError(f"'{path}' holds a tokenizer of type {model.get('type')!r}; T5 has Unigram.")
    normalizer = read_json(path).get("normalizer") or {}
    kinds = [part.get("type") for part in normalizer.get("normalizers", [normalizer])]
    return _checked(path, [(str(p), float(s)) for p, s in model["vocab"]], length, lower="Lowercase" in kinds)


def _of_sentencepiece(path: Path, length: int) -> UnigramTokenizer:
    """Pieces are field 1 of the message; each has its text in field 1 and its score in field 2."""
    pieces = []
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1:
                piece = dict(_fields(value))
                pieces.append((piece[1].decode(), struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0))
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise DataError(f"'{path}' is no model of SentencePiece ({error}); fetch it again.") from error
    return _checked(path, pieces, length)


def _checked(
    path: Path, pieces: list[tuple[str, float]], length: int, *, lower: bool = False
) -> UnigramTokenizer:
    if tuple(piece for piece, _ in pieces[: len(MARKS)]) != MARKS:
        raise DataError(f"'{path}' does not begin with {', '.join(MARKS)}, so it is not T5's; fetch T5's.")
    texts, scores = zip(*pieces, strict=True)
    return UnigramTokenizer(texts, scores, length, lower)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Fields of a protocol buffer: their numbers, and their bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            start = at
            _, at = _varint(data, at)
        elif kind == 2:
            size, start = _varint(data, at)
            at = start + size
        elif kind in (1, 5):
            start, at = at, at + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"a field of kind {kind}")
        if at > len(data):
            raise ValueError("it breaks off")
        yield key >> 3, data[start:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at


def write_tokenizer(tokenizer: UnigramTokenizer) -> dict[str, Any]:
    """``tokenizer.json`` of the tokenizers library."""
    lower = [{"type": "Lowercase"}] if tokenizer.lower else []
    space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    mark = {"SpecialToken": {"id": MARKS[1], "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": n,
                "content": piece,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for n, piece in enumerate(tokenizer.pieces)
            if piece in MARKS
        ],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, *lower]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, space]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [text, mark],
            "pair": [text, mark],
            "special_tokens": {MARKS[1]: {"id": MARKS[1], "ids": [END], "tokens": [MARKS[1]]}},
        },
        "decoder": space,
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "vocab": [list(pair) for pair in zip(tokenizer.pieces, tokenizer.scores, strict=True)],
            "byte_fallback": False,
        },
    }
