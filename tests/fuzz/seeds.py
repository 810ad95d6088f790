"""Makes seeds/tokenizer/bare.model and seeds/prompt/* for the fuzz targets: python3 tests/fuzz/seeds.py

bare.model: the first 300 pieces (special ones, white space, bytes, a few merged) of tests/data/oracle/tok512
and its settings, without <loc> and <seg>: small enough to be mutated, complete enough to be opened.
"""
import pathlib

N_PIECES = 300
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


def main():
    model = (HERE.parent / "data/oracle/tok512/tokenizer.model").read_bytes()
    pieces = [raw for number, raw in fields(model) if number == 1]
    settings = [raw for number, raw in fields(model) if number != 1]
    for name in ("tokenizer", "prompt"):
        (HERE / "seeds" / name).mkdir(parents=True, exist_ok=True)
    (HERE / "seeds/tokenizer/bare.model").write_bytes(b"".join(pieces[:N_PIECES] + settings))
    for i, text in enumerate(PROMPTS):
        (HERE / "seeds/prompt" / str(i)).write_bytes(bytes([i]) + text.encode())
    (HERE / "seeds/prompt/invalid").write_bytes(b"\x00caf\xe9 \xed\xa0\x80 \xf0\x9f\x99")


if __name__ == "__main__":
    main()
