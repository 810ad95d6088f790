#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 900
# SLOW
"""Damaged checkpoints, images, options and prompts: a clear message, a stable exit code, no crash, no hang.

Every case runs on 1 and on 3 ranks. A case names the exit status and what the message must hold:
the file, tensor, option or record that is wrong. A signal, a time-out or another status fails it.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

from program_case import BUILD, DATA, MICRO as GOOD, PALIGRID, check, on_ranks, verdict

WORK = os.path.join(BUILD, "bad-input")
IMAGE = os.path.join(DATA, "images", "rgb.png")
USAGE, MODEL, SOME_FAILED = 64, 78, 1
LIMIT_S = 60


# ---- damaged checkpoints: each maker changes a good copy ----

def read_tensors(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        return json.loads(f.read(n)), f.read()


def write_file(folder, head, data, name="model.safetensors"):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    with open(os.path.join(folder, name), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def edit_config(change):
    def make(folder):
        path = os.path.join(folder, "config.json")
        with open(path) as f:
            c = json.load(f)
        change(c)
        with open(path, "w") as f:
            json.dump(c, f)
    return make


def edit_header(change):
    def make(folder):
        head, data = read_tensors(folder)
        data = change(head, data) or data
        write_file(folder, head, data)
    return make


def put(name, content):
    def make(folder):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(content)
    return make


def drop(name):
    return lambda folder: os.remove(os.path.join(folder, name))


def text(key, value):
    return edit_config(lambda c: c["text_config"].__setitem__(key, value))


NORM = "language_model.model.norm.weight"
DOWN = "language_model.model.layers.1.mlp.down_proj.weight"


def first_bits(name, bits):
    """Put a 16-bit pattern into a tensor's first element."""
    def change(head, data):
        at = head[name]["data_offsets"][0]
        return data[:at] + struct.pack("<H", bits) + data[at + 2:]
    return edit_header(change)


def truncate(folder):
    path = os.path.join(folder, "model.safetensors")
    os.truncate(path, os.path.getsize(path) - 100)


def only_pickle(folder):
    os.rename(os.path.join(folder, "model.safetensors"), os.path.join(folder, "pytorch_model.bin"))


def fifo(folder):
    os.remove(os.path.join(folder, "model.safetensors"))
    os.mkfifo(os.path.join(folder, "model.safetensors"))


def shards(mapping):
    def make(folder):
        head, _ = read_tensors(folder)
        os.rename(os.path.join(folder, "model.safetensors"), os.path.join(folder, "model-00001-of-00002.safetensors"))
        where = {k: mapping for k in head if k == NORM} | {k: "model-00001-of-00002.safetensors" for k in head if k not in (NORM, "__metadata__")}
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {"total_size": 1}, "weight_map": where}, f)
    return make


def double_key(folder):
    head, data = read_tensors(folder)
    t = json.dumps(head)
    write_file(folder, (t[:-1] + f', "{NORM}": ' + json.dumps(head[NORM]) + "}").encode(), data)


def alias(head, data):
    head["model." + NORM.replace("language_model.model.", "language_model.")] = {
        "dtype": "BF16", "shape": head[NORM]["shape"], "data_offsets": [len(data), len(data) + 64]}
    return data + bytes(64)


def extra(head, data):
    head["language_model.model.layers.7.extra.weight"] = {"dtype": "BF16", "shape": [32], "data_offsets": [len(data), len(data) + 64]}
    return data + bytes(64)


CHECKPOINTS = [
    ("no config", drop("config.json"), "config.json"),
    ("config is not JSON", put("config.json", b"{ not json"), "config.json"),
    ("config is empty", put("config.json", b""), "config.json"),
    ("config is binary", put("config.json", bytes(range(256)) * 8), "config.json"),
    ("config nests too deep", put("config.json", b"[" * 100000), "config.json"),
    ("PaliGemma 1", text("model_type", "gemma"), "gemma2"),
    ("hidden size negative", text("hidden_size", -5), "hidden_size"),
    ("hidden size is text", text("hidden_size", "big"), "hidden_size"),
    ("a billion layers", text("num_hidden_layers", 10 ** 9), "num_hidden_layers"),
    ("heads not a multiple of KV heads", text("num_key_value_heads", 3), "num_key_value_heads"),
    ("quantised", edit_config(lambda c: c.__setitem__("quantization_config", {"quant_method": "bitsandbytes"})), "quantization_config"),
    ("scaled RoPE", text("rope_parameters", {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}), "rope"),
    ("image not a multiple of the patch", edit_config(lambda c: c["vision_config"].__setitem__("image_size", 29)), "image_size"),
    ("no weights", drop("model.safetensors"), "safetensors"),
    ("only a pickle", only_pickle, "safetensors"),
    ("weights are a FIFO", fifo, "model.safetensors"),
    ("weights truncated", truncate, "model.safetensors"),
    ("weights empty", put("model.safetensors", b""), "model.safetensors"),
    ("header length of 2^60", put("model.safetensors", struct.pack("<Q", 1 << 60) + b"{}"), "model.safetensors"),
    ("header is not JSON", put("model.safetensors", struct.pack("<Q", 8) + b"{x: 1}  "), "model.safetensors"),
    ("header is an array", put("model.safetensors", struct.pack("<Q", 2) + b"[]"), "model.safetensors"),
    ("trailing bytes", edit_header(lambda h, d: d + b"1234"), "model.safetensors"),
    ("tensors overlap", edit_header(lambda h, d: h[NORM].__setitem__("data_offsets", [0, 64])), "model.safetensors"),
    ("offsets reversed", edit_header(lambda h, d: h[NORM]["data_offsets"].reverse()), NORM),
    ("offsets beyond the file", edit_header(lambda h, d: h[NORM].__setitem__("data_offsets", [10 ** 9, 10 ** 9 + 64])), NORM),
    ("shape overflows", edit_header(lambda h, d: h[NORM].__setitem__("shape", [2 ** 62, 4, 4])), NORM),
    ("shape lies", edit_header(lambda h, d: h[NORM].__setitem__("shape", [16, 2])), NORM),
    ("wrong type", edit_header(lambda h, d: h[NORM].__setitem__("dtype", "I16")), NORM),
    ("unknown type", edit_header(lambda h, d: h[NORM].__setitem__("dtype", "Q4")), NORM),
    ("tensor named twice", double_key, "model.safetensors"),
    ("two namings of one tensor", edit_header(alias), "norm.weight"),
    ("tensor missing", edit_header(lambda h, d: h.__setitem__("language_model.model.layers.7.extra.weight", h.pop(NORM)) and None), NORM),
    ("tensor unknown", edit_header(extra), "layers.7.extra"),
    ("config wants another width", text("intermediate_size", 46), "mlp"),
    ("NaN weight", first_bits(DOWN, 0x7FC1), DOWN),
    ("infinite weight", first_bits(NORM, 0xFF80), NORM),
    ("shard missing", shards("model-00002-of-00002.safetensors"), "model-00002-of-00002"),
    ("shard outside the folder", shards("../model.safetensors"), "../model.safetensors"),
    ("no tokenizer.model", drop("tokenizer.model"), "tokenizer.model"),
    ("tokenizer.model is garbage", put("tokenizer.model", b"\xff\x01garbage" * 50), "tokenizer.model"),
    ("tokenizer.model is empty", put("tokenizer.model", b""), "tokenizer.model"),
    ("preprocessor of another size", put("preprocessor_config.json", b'{"size": {"height": 32, "width": 32}}'), "preprocessor_config.json"),
]

# ---- options ----
RUN = ["run", "--model", GOOD, "--prompt", "caption en", "--max-new-tokens", "2"]
OPTIONS = [
    (["run", "--prompt", "x", IMAGE], USAGE, "model"),
    (["run", "--model", GOOD, IMAGE], USAGE, "prompt"),
    (RUN, USAGE, "image"),
    ([*RUN, "--frobnicate", IMAGE], USAGE, "frobnicate"),
    ([*RUN, "--max-new-tokens", "many", IMAGE], USAGE, "max-new-tokens"),
    ([*RUN, "--max-new-tokens", "0", IMAGE], USAGE, "max-new-tokens"),
    ([*RUN, "--max-new-tokens", "99999999999999999999", IMAGE], USAGE, "max-new-tokens"),
    ([*RUN, "--window", "half", IMAGE], USAGE, "window"),
    ([*RUN, "--temperature", "-1", IMAGE], USAGE, "temperature"),
    ([*RUN, "--top-p", "1.5", IMAGE], USAGE, "top-p"),
    ([*RUN, "--beams", "0", IMAGE], USAGE, "beams"),
    ([*RUN, "--comm-timeout", "nan", IMAGE], USAGE, "comm-timeout"),
    (["fly", IMAGE], USAGE, "fly"),
    (["run", "--model", "/no/such/folder", "--prompt", "x", IMAGE], MODEL, "/no/such/folder"),
    (["run", "--model", "synthetic:4b-300", "--prompt", "x", IMAGE], USAGE, "4b-300"),
    (["run", "--model", IMAGE, "--prompt", "x", IMAGE], MODEL, "rgb.png"),
]


# ---- records ----

def png(width, height, rows=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def bad_images(folder):
    """Name -> part of its message; None: a good image among them."""
    def good(name):
        with open(os.path.join(DATA, "images", name), "rb") as f:
            return f.read()
    files = {
        "empty.png": (b"", "empty"), "page.jpg": (b"<html><body>404</body></html>", "page.jpg"),
        "noise.jpg": (bytes(i * 37 % 256 for i in range(4000)), "noise.jpg"),
        "cut.png": (good("rgb.png")[:2000], "cut.png"), "cut.jpg": (good("rgb420.jpg")[:900], "cut.jpg"),
        "noeoi.jpg": (good("rgb420.jpg")[:-2], "noeoi.jpg"), "cutprog.jpg": (good("progressive.jpg")[:700], "cutprog.jpg"),
        "huge.png": (png(20000, 20000), "20000"), "flat.png": (png(0, 5), "flat.png"), "lying.png": (png(64, 64, b"\0" * 10), "lying.png"),
        "crc.png": (good("rgb.png")[:40] + b"\x55" + good("rgb.png")[41:], "crc.png"),
        "one.png": (png(1, 1, b"\0abc"), None), "fine.png": (good("rgb.png"), None),
    }
    want = {}
    for name, (content, message) in files.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(content)
        want[name] = message
    os.makedirs(os.path.join(folder, "folder.png"), exist_ok=True)
    os.mkfifo(os.path.join(folder, "fifo.png"))
    os.symlink("nowhere", os.path.join(folder, "dangling.png"))
    return want | {"folder.png": "folder.png", "fifo.png": "fifo.png", "dangling.png": "dangling.png", "absent.png": "absent.png"}


PROMPTS = [
    (b"caption \xff\xfe en", "UTF-8"),
    (b"why " * 3000, "tokens"),
    (b"<image><image> two markers, one image", "image"),
]


# ---- running ----

def launch(ranks, args):
    argv = [*on_ranks(ranks), PALIGRID, *args]
    for _ in range(3):
        try:
            r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return None, b"", b"no end within the limit"
        # The sanitizer's own tracer dies now and then after the program has ended; that says nothing.
        if b"LeakSanitizer has encountered a fatal error" not in r.stderr:
            break
    return r.returncode, r.stdout, r.stderr


def check_exits(cases):
    """(name, arguments, exit status, part of the message); two at a time, as starting ranks is mostly waiting."""
    jobs = [(ranks, *case) for case in cases for ranks in (1, 3)]
    with ThreadPoolExecutor(2) as pool:
        ends = pool.map(lambda job: launch(job[0], job[2]), jobs)
        for (ranks, name, _, status, message), (got, out, err) in zip(jobs, ends):
            err = err.decode(errors="replace")
            check(f"{name} on {ranks} rank(s)", got == status and message in err and not out, f"status {got}, expected {status} and {message!r}:\n{err}")


def check_rows(name, args, want):
    """want: image or prompt -> part of the error, or None for an answer; as JSON lines."""
    for ranks in (1, 3):
        got, out, err = launch(ranks, args)
        rows = [json.loads(line) for line in out.decode().splitlines()]
        check(f"{name} on {ranks} rank(s)", got == SOME_FAILED and len(rows) == len(want), f"status {got}, {len(rows)} rows of {len(want)}\n{err.decode(errors='replace')}")
        for row, (key, message) in zip(rows, want):
            error = row.get("error")
            ok = "text" in row and error is None if message is None else error is not None and message in error
            check(f"{name}, {key} on {ranks} rank(s)", ok, json.dumps(row))


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(os.path.join(WORK, "images"))
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    exits = []
    for i, (name, make, message) in enumerate(CHECKPOINTS):
        if only in name:
            folder = os.path.join(WORK, f"ckpt{i:02}")
            shutil.copytree(GOOD, folder)
            make(folder)
            exits.append((name, ["run", "--model", folder, "--prompt", "caption en", "--max-new-tokens", "2", IMAGE], MODEL, message))
    for args, status, message in OPTIONS:
        if only in message:
            exits.append((f"option {message}: {' '.join(args[-2:])[-60:]}", args, status, message))
    check_exits(exits)
    want = bad_images(os.path.join(WORK, "images"))
    if only in "images":
        check_rows("images", [*RUN, "--json", *(os.path.join(WORK, "images", n) for n in want)], list(want.items()))
    for prompt, message in PROMPTS:
        if only in "prompts":
            check_rows("prompts", ["run", "--model", GOOD, "--prompt", prompt, "--max-new-tokens", "2", "--json", IMAGE], [(prompt[:20], message)])
    return verdict()


if __name__ == "__main__":
    sys.exit(main())
