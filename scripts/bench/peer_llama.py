"""llama.cpp as a peer: its decoder of Gemma 2, with the same weights (write_gguf.py), by its own benchmarks.

llama-bench measures one sequence: a prompt, and tokens behind a prompt of that length. llama-batched-bench measures several at once.
Each turn is a process of its own, as a user would start it; loading is not in its figures.
"""
import json
import os
import shutil
import subprocess
import sys

from .worker import HERE, Missing


def find(folder):
    """Path of llama-bench: in folder, else on PATH."""
    path = shutil.which("llama-bench", path=folder) if folder else shutil.which("llama-bench")
    if not path:
        raise Missing(f"no llama-bench {'in ' + folder if folder else 'on PATH'} (--llama FOLDER)")
    return path


class Llama:
    def __init__(self, program, preset, layers, kind, scratch, args):
        self.program, self.args, self.scratch = program, args, scratch
        self.file = scratch.make(f"{preset}-{layers or 'all'}-{kind}.gguf")
        if not os.path.exists(self.file):
            scratch.make(os.path.basename(self.file) + ".part")  # until it is complete
            argv = [sys.executable, os.path.join(HERE, "write_gguf.py"), "--preset", preset, "--type", kind, "--out", self.file]
            written = subprocess.run(argv + (["--layers", str(layers)] if layers else []), stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
            if written.returncode != 0:
                raise Missing(f"no GGUF file ({(written.stderr.splitlines() or ['?'])[-1]}); pip install gguf")
        px = int(preset.split("-")[1])
        self.n_ids = (px // 14) ** 2 + args.text_tokens
        self.name = f"llama.cpp {kind}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.args.keep:
            self.scratch.remove(self.file)

    def rows(self, program, *options):
        argv = [program, "-m", self.file, "-t", str(self.args.threads), *map(str, options)]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not rows:
            raise Missing(f"{os.path.basename(program)} ended with status {done.returncode}: {(done.stderr.splitlines() or [''])[-1][:200]}")
        return rows

    def measure(self, batch):
        n = self.args.new_tokens - 1  # the first one comes out of the prefill
        if batch == 1:
            prompt = self.rows(self.program, "-p", self.n_ids, "-n", 0, "-r", 1, "-o", "jsonl")[0]["avg_ts"]
            return {"prefill_text": prompt, "decode": self.rows(self.program, "-p", 0, "-n", n, "-d", self.n_ids, "-r", 1, "-o", "jsonl")[0]["avg_ts"]}
        batched = os.path.join(os.path.dirname(self.program), "llama-batched-bench")
        if not os.path.exists(batched):
            raise Missing("no llama-batched-bench beside llama-bench")
        room = batch * (self.n_ids + n)
        row = self.rows(batched, "-npp", self.n_ids, "-ntg", n, "-npl", batch, "-c", room, "--output-format", "jsonl")[-1]
        return {"prefill_text": row["speed_pp"], "decode": row["speed_tg"]}
