"""The demo's tokenizer: a small SentencePiece BPE with Gemma's conventions and PaliGemma's tokens.

Ids, with V0 = BASE_PIECES:
    0 <pad>, 1 <eos>, 2 <bos>, 3 <unk>, the newlines, 256 bytes, the pieces      below V0
    <loc0000> .. <loc1023>   V0 ..          user-defined pieces inside tokenizer.model
    <seg000>  .. <seg127>    V0 + 1024 ..   likewise
    <image>                  V0 + 1152      only in tokenizer.json
    embedding rows           V0 + 1154, rounded up to a multiple of 64

No normalisation, no dummy prefix, digits split, byte fallback. Signs are read letter by letter:
capital letters only stand alone in the training text, so no piece joins two of them.
"""

import io
import json
import random
import string
import struct
from functools import lru_cache
from pathlib import Path

import sentencepiece as spm
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers.tokenization_utils_base import generate_merges

from . import language
from .scenes import make_scene

BASE_PIECES = 640
LOC0, SEG0, IMAGE = BASE_PIECES, BASE_PIECES + 1024, BASE_PIECES + 1152
ROWS = (BASE_PIECES + 1154 + 63) // 64 * 64
BOS, EOS = 2, 1
LOC = [f"<loc{i:04d}>" for i in range(1024)]
SEG = [f"<seg{i:03d}>" for i in range(128)]
NEWLINES = ["\n" * n for n in range(1, 5)]
NORMAL, USER_DEFINED = 1, 4  # SentencePiece's piece types


def corpus(n_scenes=6000, seed=5):
    """Lines of prompts and answers, without boxes and with every capital letter on its own."""
    rng = random.Random(seed)
    lines = [c for c in string.ascii_uppercase for _ in range(200)]
    for _ in range(n_scenes):
        scene = make_scene(rng)
        if scene["word"]:
            scene["word"] = scene["word"][0]
        for _ in range(8):
            asked = language.ask(scene, rng)
            if asked and asked[0] != "ocr":
                answer = asked[2].rsplit(">")[-1] if asked[0] == "detect" else asked[2]
                lines += [asked[1], answer]
    return lines


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def fields(message):
    """(number, value, raw bytes) of each field of one protobuf message; enough of the wire format
    for tokenizer.model, so that the result does not hang on a generated protobuf class."""
    i = 0

    def number():
        nonlocal i
        value = shift = 0
        while True:
            byte = message[i]
            i += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while i < len(message):
        start = i
        key = number()
        wire = key & 7
        if wire == 0:
            value = number()
        else:
            size = {1: 8, 5: 4}.get(wire) or number()
            value, i = message[i : i + size], i + size
        yield key >> 3, value, message[start:i]


def extend(model):
    """Append <loc> and <seg> as user-defined pieces and set vocab_size to match."""
    pieces, rest = [], b""
    for num, _, raw in fields(model):
        if num == 1:
            pieces.append(raw)
    for text in LOC + SEG:
        t = text.encode()
        body = (
            b"\x0a"
            + varint(len(t))
            + t
            + b"\x15"
            + struct.pack("<f", 0.0)
            + b"\x18"
            + varint(USER_DEFINED)
        )
        pieces.append(b"\x0a" + varint(len(body)) + body)
    for num, value, raw in fields(model):
        if num == 2:  # trainer_spec, its field 4 is vocab_size
            body = b"".join(
                varint(4 << 3) + varint(len(pieces)) if n == 4 else r for n, _, r in fields(value)
            )
            raw = varint(2 << 3 | 2) + varint(len(body)) + body
        if num != 1:
            rest += raw
    return b"".join(pieces) + rest


def train_model():
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=out,
        model_type="bpe",
        vocab_size=BASE_PIECES,
        byte_fallback=True,
        pad_id=0,
        eos_id=EOS,
        bos_id=BOS,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=NEWLINES,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return extend(out.getvalue())


def fast_tokenizer(model):
    """tokenizer.json as transformers' Gemma converter makes it, plus <image>."""
    pieces = []
    for num, value, _ in fields(model):
        if num == 1:
            f = {n: v for n, v, _ in fields(value)}
            pieces.append(
                (f[1].decode(), struct.unpack("<f", f.get(2, b"\0\0\0\0"))[0], f.get(3, NORMAL))
            )
    vocab = {p: i for i, (p, _, _) in enumerate(pieces)}
    scores = {p: s for p, s, _ in pieces}
    # The converter gives the byte piece of the tab the name of the tab itself.
    vocab["\t"], scores["\t"] = vocab["<0x09>"], 0.0
    merges = generate_merges(vocab, scores)
    tok = Tokenizer(
        BPE(
            {("\t" if p == "<0x09>" else p): i for i, (p, _, _) in enumerate(pieces)},
            merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tok.normalizer = normalizers.Replace(" ", "\u2581")
    tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tok.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tok.add_special_tokens(
        [
            AddedToken(p, normalized=False, special=True)
            for p in ("<pad>", "<eos>", "<bos>", "<unk>")
        ]
    )
    tok.add_tokens([AddedToken(p, normalized=False) for p in NEWLINES])
    tok.add_tokens([AddedToken(p, normalized=True) for p in LOC + SEG])
    tok.add_special_tokens([AddedToken("<image>", normalized=False, special=True)])
    tok.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", BOS)]
    )
    return tok


def write_tokenizer(folder):
    """tokenizer.model and its four companions for transformers."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = train_model()
    (folder / "tokenizer.model").write_bytes(model)
    fast = fast_tokenizer(model)
    fast.save(str(folder / "tokenizer.json"))

    def plain(token):
        return {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
        }

    special = {f"{k}_token": f"<{k}>" for k in ("bos", "eos", "pad", "unk")}
    decoder = {
        str(i): {**plain(t.content), "normalized": t.normalized, "special": t.special}
        for i, t in sorted(fast.get_added_tokens_decoder().items())
    }
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": ["<image>"],
        **special,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1000000000000000019884624838656,
        "processor_class": "PaliGemmaProcessor",
        "sp_model_kwargs": {},
        "spaces_between_special_tokens": False,
        "tokenizer_class": "GemmaTokenizer",
        "use_default_system_prompt": False,
    }
    tokens = {
        "additional_special_tokens": [plain("<image>")],
        **{k: plain(v) for k, v in special.items()},
    }
    for name, value in (
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", tokens),
        ("added_tokens.json", {"<image>": IMAGE}),
    ):
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


class Encoder:
    """Prompts and answers to ids, remembering what it has seen."""

    def __init__(self, folder):
        self.pieces = spm.SentencePieceProcessor(model_file=str(Path(folder) / "tokenizer.model"))
        self.encode = lru_cache(200000)(lambda text: tuple(self.pieces.encode(text)))

    def prompt(self, text):
        return (BOS, *self.encode(text + "\n"))

    def answer(self, text):
        return (*self.encode(text), EOS)
