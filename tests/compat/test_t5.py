"""Folders of T5: transformers' open here, ours open there, and both kinds of tokenizer are read."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
import transformers

from sfumato.apps.load import load
from sfumato.compat.t5 import read_tokenizer, write_shape, write_tokenizer
from sfumato.data.shapes.related import RelatedShapes
from sfumato.data.unigram import MARKS, SPACE, UnigramTokenizer
from sfumato.errors import DataError
from sfumato.nn.t5 import T5Shape
from sfumato.nn.transformer import DiTConfig
from sfumato.systems.diffusion.imagen import Imagen, ImagenConfig, StageConfig
from sfumato.systems.text.t5 import LAPTOP, T5, T5Config

PIECES = (*MARKS, SPACE, "a", "b", "c", "ab", SPACE + "a", SPACE + "cab", "bb", "ca")
SCORES = (0.0, 0.0, 0.0, -2.0, -3.0, -3.5, -4.0, -3.2, -2.5, -5.0, -4.5, -3.9)
TOKENIZER = UnigramTokenizer(PIECES, SCORES, length=256)
SHAPE = T5Shape(
    vocabulary=len(PIECES) + 4, width=12, head_width=4, hidden=16, layers=2, heads=2, buckets=8, farthest=9
)


def message(number: int, value: bytes) -> bytes:
    """A field of a protocol buffer."""
    size, count = b"", len(value)
    while count > 127:
        size, count = size + bytes([count & 127 | 128]), count >> 7
    return bytes([number << 3 | 2]) + size + bytes([count]) + value


def spiece(pieces: tuple[str, ...], scores: tuple[float, ...]) -> bytes:
    """A model of SentencePiece, with a field that nobody needs."""
    out = b""
    for piece, score in zip(pieces, scores, strict=True):
        body = message(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18\x01"
        out += message(1, body)
    return out + message(2, b"\x18\x80\x7d" * 60)


@pytest.fixture
def folder(tmp_path) -> Path:
    said = {
        k: v for k, v in write_shape(SHAPE, whole=False).items() if k not in ("architectures", "model_type")
    }
    torch.manual_seed(0)
    model = transformers.T5EncoderModel(transformers.T5Config(**said))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.4)
    model.save_pretrained(tmp_path / "text_encoder")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "spiece.model").write_bytes(spiece(PIECES, SCORES))
    return tmp_path / "text_encoder"


@torch.no_grad()
def test_an_encoder_of_transformers_opens_with_its_tokenizer_beside_it(folder):
    system = load(folder, precision="fp32", device="cpu")
    assert isinstance(system, T5)
    assert not system.players()
    tokenizer = system.config.tokenizer
    assert tokenizer.pieces == PIECES
    assert tokenizer.scores == pytest.approx(SCORES, abs=1e-6)
    ids = tokenizer.encode(["cab abba", "a"]).tokens[:, :9]
    theirs = transformers.T5EncoderModel.from_pretrained(folder).eval()
    told = theirs(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
    assert (told - system.network(ids))[ids != 0].abs().max() < 2e-5


def test_imagen_reads_with_an_encoder_of_transformers(folder):
    encoder = load(folder, precision="fp32", device="cpu")
    stage = StageConfig(network=DiTConfig(patch=4, width=16, depth=1, heads=2), width=8)
    fitted = Imagen.fit(ImagenConfig(stages=(stage,), words=7), RelatedShapes("test", 24).facts)
    system = Imagen(Imagen.built_on(fitted, encoder))
    system.adopt(encoder)
    ids = system.readers[0].encode(["cab abba"])
    assert ids.shape == (1, 7)
    assert torch.equal(system.text(ids), encoder.network(ids))
    assert "text" not in {name.split(".")[0] for name, p in system.named_parameters() if p.requires_grad}


@torch.no_grad()
def test_what_is_trained_here_opens_in_transformers(tmp_path):
    data = RelatedShapes("test", 24, length=4)
    config = T5.fit(T5Config(LAPTOP, sentinels=8), data.facts)
    torch.manual_seed(0)
    system = T5(config).eval()
    system.to_diffusers(tmp_path / "t5")
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "t5").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "t5")
    captions = data.batch(torch.arange(4))["caption"]
    ids = config.tokenizer.encode(captions).tokens
    for row, caption in zip(ids.tolist(), captions, strict=True):
        assert tokenizer(caption.title())["input_ids"] == [n for n in row if n]
    before = ids[:, :5]
    told = theirs(input_ids=ids, attention_mask=(ids != 0).long(), decoder_input_ids=before).logits
    assert (told - system.network.write(ids, before)).abs().max() < 1e-4
    again = load(tmp_path / "t5", precision="fp32", device="cpu")
    assert again.config.network == config.network
    assert again.config.tokenizer.pieces == config.tokenizer.pieces
    assert again.config.tokenizer.lower
    assert torch.equal(again.network(ids), system.network(ids))


def test_tokenizers_that_are_not_t5s_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no tokenizer.json and no spiece.model"):
        read_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    told = write_tokenizer(TOKENIZER)
    file.write_text(json.dumps(told | {"model": {"type": "BPE"}}))
    with pytest.raises(DataError, match="of type 'BPE'; T5 has Unigram"):
        read_tokenizer(tmp_path)
    file.write_text(json.dumps(told | {"model": told["model"] | {"vocab": [["<s>", 0.0]]}}))
    with pytest.raises(DataError, match="does not begin with <pad>"):
        read_tokenizer(tmp_path)
    file.unlink()
    whole = spiece(PIECES, SCORES)
    (tmp_path / "spiece.model").write_bytes(whole[: len(whole) - 30])
    with pytest.raises(DataError, match=r"no model of SentencePiece .it breaks off"):
        read_tokenizer(tmp_path)


def test_settings_that_are_not_understood_are_refused(folder):
    path = folder / "config.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"feed_forward_proj": "gated-silu"}))
    with pytest.raises(DataError, match="feed_forward_proj to 'gated-silu'"):
        load(folder)
