"""Makes seeds/tokenizer/bare.model, seeds/prompt/* and seeds/journal/* for the fuzz targets: python3 tests/fuzz/seeds.py

bare.model: the first 300 pieces (special ones, white space, bytes, a few merged) of tests/data/oracle/tok512
and its settings, without <loc> and <seg>: small enough to be mutated, complete enough to be opened.
"""
import json
import pathlib

N_PIECES = 300
JOURNAL_CONFIG = "ea44db99d72711f5"  # XXH3-64 of {"prompt":"caption en"}, the target's settings
HERE = pathlib.Path(__file__).parent
PROMPTS = ["caption en", "<image>detect cat ; dog\n", "b<image> b<image>caption en", "\u2581\u2581 caf\u00e9 \u65e5\u672c \U0001f642\t\n",
           "<loc0051><loc0309><loc0708><loc0646> shoe ; <loc0001><loc0002><loc0003><loc0004>" + "".join(f"<seg{i:03d}>" for i in range(16)) + " cat"]


def fields(model):
    """Yields (number, raw bytes) of a message whose fields are all byte strings."""
    at = 0
    while at < len(model):
        begin, length, shift, more = at, 0, 0, True
        at += 1
        while more:
            length |= (model[at] & 127) << shift
            more, shift, at = model[at] > 127, shift + 7, at + 1
        at += length
        yield model[begin] >> 3, model[begin:at]


def journal_line(members):
    """A line of the journal; fuzz_journal puts the right checksum in."""
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False)[:-1].encode() + b',"crc":"0000000000000000"}\n'


def journal_seeds():
    header = journal_line({"journal": "paligrid", "version": 1, "segment": 1, "settings": {"prompt": "caption en"}})

    def record(index, **members):
        base = {"index": index, "id": f"r{index}", "config": JOURNAL_CONFIG, "input": "0123456789abcdef" * 2, "status": "ok", "image": "a.jpg",
                "image_id": "7", "number": -1, "prompt": "caption en", "width": 640, "height": 480, "n_images": 1, "n_prompt_tokens": 12, "wait_us": 1,
                "decode_us": 2, "vision_us": 3, "prefill_us": 4, "generate_us": 5, "replica": 0, "attempt": 1}
        answer = {"text": "<loc0001><loc0002><loc0300><loc0400> caf\u00e9 ; <loc0001>", "token_ids": [1, 2], "finish": "eos", "logprob": -0.5}
        return journal_line({**base, **answer, **members})

    failed = dict(status="failed", code="ERR_INPUT", why="a.jpg: No such file or directory")
    failed["class"] = "missing"
    lines = [record(0), record(1, **failed), record(1, suffix="x", finish="length", logprob=None), record(70000), record(2)]
    return {"whole": b"\x01" + header + b"".join(lines), "joined": b"\x01" + header + b"".join(lines).replace(b"}\n", b"}x", 2),
            "torn": b"\x01" + header + b"".join(lines)[:-70], "two": b"\x03" + header + lines[0] + lines[1] + header + lines[2] + lines[3],
            "other": b"\x01" + header.replace(b"en", b"de") + lines[0], "plain": b"\x00" + header + lines[0]}


def main():
    model = (HERE.parent / "data/oracle/tok512/tokenizer.model").read_bytes()
    pieces = [raw for number, raw in fields(model) if number == 1]
    settings = [raw for number, raw in fields(model) if number != 1]
    for name in ("tokenizer", "prompt", "journal"):
        (HERE / "seeds" / name).mkdir(parents=True, exist_ok=True)
    (HERE / "seeds/tokenizer/bare.model").write_bytes(b"".join(pieces[:N_PIECES] + settings))
    for i, text in enumerate(PROMPTS):
        (HERE / "seeds/prompt" / str(i)).write_bytes(bytes([i]) + text.encode())
    for name, data in journal_seeds().items():
        (HERE / "seeds/journal" / name).write_bytes(data)
    (HERE / "seeds/prompt/invalid").write_bytes(b"\x00caf\xe9 \xed\xa0\x80 \xf0\x9f\x99")


if __name__ == "__main__":
    main()
