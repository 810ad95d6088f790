"""How near paligrid comes to what this machine can do, beside what is aimed at: scripts/targets.sh runs this.

Every row is a job with a share of the time. A job measures rounds until enough of them were steady or its share is over; one that
could not end in the time left is said to be left out. Ceilings are paligrid's own probes of the same rounds: read bandwidth of all
threads for decoding, the multiply-add rate of the best instruction for prefill.
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from . import aims, checkpoint, command_line, paligrid, rounds, table
from .scratch import Scratch

GB = 1e9
LARGE_FREE_GB = 19.5  # what has to be free to try 28B in int4
START_RUNS = 7


class Bench:
    """What all jobs share."""

    def __init__(self, args, out, scratch):
        self.args, self.out, self.scratch = args, out, scratch
        self.end = time.monotonic() + 60 * args.budget
        self.rate = {}  # px: prefill's tokens/s, to guess how long a larger one takes

    def model(self, preset, reduced=None):
        """Smaller for tests of this script: --layers."""
        n = self.args.layers or reduced
        return checkpoint.synthetic(preset, n, n), f"{n} + {n} layers of {preset}" if n else ""

    def paced(self, model, *options, **settings):
        settings = {"threads": self.args.threads, **settings}
        return paligrid.Paced(self.args.program, model, "--max-new-tokens", self.args.new_tokens, *options, **settings)

    def share(self, what, setting, rows, dropped, target, note):
        """A row of rates beside their ceilings."""
        if not rows:
            self.out.add(table.row(what, setting, target=target, dropped=dropped, note=joined(note, "no steady round")))
            return
        shares = [r["share_of_ceiling"] for r in rows]
        ceiling = rounds.ceiling_of(what)
        against = f"{statistics.median(r[ceiling] for r in rows):.4g} {'GB/s' if ceiling == 'read_gb_s' else 'GFLOP/s'}"
        self.out.add(table.row(what, setting, against, target, joined(note, few(len(rows))), ours=statistics.median(r["median"] for r in rows),
                               theirs=statistics.median(r["ceiling"] for r in rows), unit=rows[0]["unit"], ratio=statistics.median(shares),
                               min=min(shares), max=max(shares), n=len(rows), dropped=dropped))

    def pair(self, what, setting, against, ratios, phase, target, note):
        """A row of two of our own settings."""
        values = ratios.summary(phase)
        if values is None:
            note, values = joined(note, "no steady round"), {"dropped": ratios.dropped[phase]}
        else:
            note = joined(note, few(values["n"]))
        self.out.add(table.row(what, setting, against, target, note, **values))


def joined(*notes):
    return ", ".join(n for n in notes if n)


def few(n):
    return f"fewer than {rounds.WANTED} rounds" if n < rounds.WANTED else ""


# ---- jobs: each takes the bench and its seconds ----

def prefill(px):
    def job(b, seconds):
        reduced = None
        if px == 896 and 448 in b.rate:
            whole = (3 + rounds.WANTED) * (4096 + 16) / b.rate[448] * 1.3  # the share of attention grows
            reduced = 6 if whole > seconds else None
        model, note = b.model(f"3b-{px}", reduced)
        with b.paced(model, phases=("prefill",)) as p:
            kept, dropped = rounds.alone(p.round, ("prefill",), b.args.rounds, seconds)
        if kept["prefill"]:
            b.rate[px] = statistics.median(r["median"] for r in kept["prefill"])
        b.share("prefill", f"3b-{px} bf16 b1", kept["prefill"], dropped["prefill"], aims.PREFILL_SHARE[px], note)
    return job


def int8(b, seconds):
    model, note = b.model("3b-224")
    with b.paced(model, "--activations", "int8", phases=("prefill",), weights="int8") as ours, \
            b.paced(model, phases=("prefill",), weights="bf16") as theirs:
        ratios = rounds.in_turns(ours.round, theirs.round, theirs.probe, ("prefill_text",), b.args.rounds, seconds)
    b.pair("prefill_text", "3b-224 int8, int8 activations", "bf16", ratios, "prefill_text", aims.INT8_ACTIVATIONS, note)


def decode(weights):
    def job(b, seconds):
        model, note = b.model("3b-224")
        with b.paced(model, phases=("decode",), weights=weights) as p:
            kept, dropped = rounds.alone(p.round, ("decode",), b.args.rounds, seconds)
        b.share("decode", f"3b-224 {weights} b1", kept["decode"], dropped["decode"], aims.DECODE_SHARE[weights], note)
    return job


def batch(b, seconds):
    model, note = b.model("3b-224")
    with b.paced(model, phases=("decode",), max_batch=8, weights="bf16") as p:
        ratios = rounds.in_turns(lambda: p.round(8), lambda: p.round(1), p.probe, ("decode",), b.args.rounds, seconds)
    b.pair("decode b8", "3b-224 bf16 b8", "b1", ratios, "decode", aims.BATCH_8, note)


def ranks(b, seconds):
    model, note = b.model("3b-224")
    phases = ("prefill", "decode")
    with b.paced(model, phases=phases, threads=2) as one, b.paced(model, phases=phases, threads=1, ranks=2) as two:
        ratios = rounds.in_turns(two.round, one.round, one.probe, phases, b.args.rounds, seconds)
    for phase in phases:
        b.pair(phase, "3b-224 bf16 2 ranks x 1", "1 rank x 2 threads", ratios, phase, aims.RANKS, note)


def sums(b, seconds):
    """What exact sums take beyond those in f32: of a layer, times the layers, over the time of the whole phase."""
    model, note = b.model("3b-224")
    layers = b.args.layers or 26
    rows = {r["phase"]: r for r in paligrid.rows_of(b.args.program, model, "--phases", "sums", "--threads", b.args.threads)}
    with b.paced(model, phases=("prefill", "decode")) as p:
        kept, _ = rounds.alone(p.round, ("prefill_text", "decode"), 3, seconds)
    for phase, sums_of, units in (("prefill_text", "sums_prefill", 256 + 16), ("decode", "sums_decode", 1)):
        if not kept[phase]:
            b.out.add(table.row("exact sums", f"3b-224 bf16 {phase}", target=aims.SUMS, note=joined(note, "no steady round")))
            continue
        ms = units * statistics.median(r["ms"] for r in kept[phase])
        exact, plain = (layers * rows[sums_of][k] / 1e3 for k in ("median", "ceiling"))
        b.out.add(table.row("exact sums", f"3b-224 bf16 {phase}", f"in f32, of {ms:.4g} ms", aims.SUMS, note, ours=exact, theirs=plain, unit="ms",
                            ratio=(exact - plain) / ms, n=rows[sums_of]["n"], dropped=0))


def start(b, seconds):
    n = b.args.layers
    model = checkpoint.make(b.scratch, "3b-224", n, n)
    began, ms = time.monotonic(), []
    for i in range(1 + START_RUNS):
        if i > 1 and time.monotonic() - began > seconds:
            break
        rows = paligrid.rows_of(b.args.program, model, "--phases", "start", "--load", "map", "--max-new-tokens", 2)
        ms += [rows[0]["median"]] if i else []  # the first one brings the files into memory
    b.out.add(table.row("warm start", "3b-224 bf16 --load map", "exec to first vision layer", aims.START_MS, f"{n} + {n} layers of 3b-224" if n else "",
                        ours=statistics.median(ms), unit="ms", min=min(ms), max=max(ms), n=len(ms), dropped=0))
    with b.paced(model, "--load", "map", phases=("decode",), threads=1, ranks=2) as p:
        p.round()
        bytes_held, bytes_needed = p.resident_bytes(), tensor_bytes(model)
        if bytes_held is not None:
            bytes_held -= p.probe()["bytes"]
    ratio = None if bytes_held is None else bytes_held / bytes_needed
    b.out.add(table.row("resident", "2 ranks --load map", "bytes of the weights", aims.COPIES, joined("all memory of both ranks", f"{n} + {n} layers of 3b-224" if n else ""),
                        ours=None if ratio is None else bytes_held / GB, theirs=bytes_needed / GB, unit="GB", ratio=ratio))


def tensor_bytes(model):
    return sum(os.path.getsize(os.path.join(model, f)) for f in os.listdir(model) if f.endswith(".safetensors"))


def memory(b, seconds):
    model, note = b.model("3b-224")
    for weights in ("bf16", "int8", "int4"):
        r = paligrid.rows_of(b.args.program, model, "--phases", "memory", "--weights", weights, "--max-new-tokens", b.args.new_tokens)[0]
        b.out.add(table.row("peak memory", f"3b-224 {weights}", "plan", aims.MEMORY, note, ours=r["median"], theirs=r["ceiling"], unit="GB",
                            ratio=r["share_of_ceiling"], n=1))


def free_gb():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) * 1024 / GB for line in f if line.startswith("MemAvailable"))


def large(b, seconds):
    model, note = b.model("28b-448")
    if not b.args.layers and free_gb() < LARGE_FREE_GB:
        b.out.add(table.row("peak memory", "28b-448 int4", target=aims.MEMORY_28B, note=f"{free_gb():.1f} GB are free, {LARGE_FREE_GB} are needed"))
        return
    for n in (1, 2):
        r = paligrid.rows_of(b.args.program, model, "--phases", "memory", "--weights", "int4", "--max-new-tokens", 3, ranks=n)[0]
        b.out.add(table.row("peak memory", f"28b-448 int4 {n} rank(s)", f"plan {r['ceiling']:.4g} GB", aims.MEMORY_28B, note, ours=r["median"], unit="GB", n=1))


# name: (job, weight of its share of the time, seconds below which it is not begun)
JOBS = {
    "prefill-224": (prefill(224), 2, 20),
    "prefill-448": (prefill(448), 3, 40),
    "prefill-int8": (int8, 2, 60),
    "decode-bf16": (decode("bf16"), 2, 20),
    "decode-int8": (decode("int8"), 2, 30),
    "decode-int4": (decode("int4"), 2, 30),
    "batch": (batch, 4, 60),
    "ranks": (ranks, 4, 60),
    "sums": (sums, 1, 60),
    "start": (start, 2, 60),
    "memory": (memory, 2, 60),
    "prefill-896": (prefill(896), 6, 60),
    "large": (large, 5, 240),
}


def run_jobs(b):
    names = [n for n in b.args.only or JOBS]
    for i, name in enumerate(names):
        job, weight, least = JOBS[name]
        left = b.end - time.monotonic()
        if left < least and not b.args.layers:
            b.out.add(table.row(name, note=f"{left:.0f} s left, {least} are needed", verdict="left out"))
            continue
        seconds = left * weight / sum(JOBS[n][1] for n in names[i:])
        try:
            job(b, seconds)
        except (paligrid.Ended, subprocess.CalledProcessError, OSError) as e:
            b.out.add(table.row(name, note=str(e), verdict="failed"))


# preset, peers, batches, decoder layers: 28B in both programs would not fit into the memory of many machines
PEERS = [
    ("3b-224", "transformers,llama-bf16,llama-q8_0,llama-q4_0,gemma.cpp", "1,4", None),
    ("3b-448", "transformers", "1", None),
    ("3b-896", "transformers", "1", None),
    ("28b-224", "llama-q4_0", "1", 12),
]
PEERS_MISSING = 77  # exit status of bench_peers.py; its rows say why
ROUNDS_SHARE = 0.6  # of the time; writing weights, loading and compiling take the rest


def peers(b):
    """The peers' rows by scripts/bench_peers.py, with the Python that has what they need."""
    args = b.args
    argv = [args.python, os.path.join(paligrid.ROOT, "scripts", "bench_peers.py"), "--program", args.program, "--scratch", b.scratch.folder, "-o", "json",
            "--threads", str(args.threads), "--rounds", str(args.rounds), "--new-tokens", str(args.new_tokens)]
    argv += ["--llama", args.llama] if args.llama else []
    argv += ["--keep"] if args.keep else []
    plan = [*PEERS, *([("3b-224", "compiled", "1", None)] if args.compiled else [])]
    for i, (preset, names, batches, layers) in enumerate(plan):
        left = max(b.end - time.monotonic(), 0)
        comparisons = sum(len(p[2].split(",")) for p in plan[i:] for n in p[1].split(",") if n != "gemma.cpp")
        if left < 60 and not args.layers:
            b.out.add(table.row("peers", preset, names, note="no time left", verdict="left out"))
            continue
        layers = args.layers or layers
        settings = ["--layers", str(layers)] if layers else []
        settings += ["--vision-layers", str(args.layers)] if args.layers else []
        settings += ["--preset", preset, "--peers", names, "--batch", batches, "--seconds", str(ROUNDS_SHARE * left / comparisons)]
        begin = len(b.out.rows)
        with subprocess.Popen([*argv, *settings], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as theirs:
            for line in theirs.stdout:
                b.out.add(json.loads(line))
        is_told = theirs.returncode == 1 and any(r["verdict"] in ("missed", "failed") for r in b.out.rows[begin:])
        if theirs.returncode not in (0, PEERS_MISSING) and not is_told:
            b.out.add(table.row("peers", preset, names, note=f"bench_peers.py ended with status {theirs.returncode}", verdict="failed"))


def options():
    ap = argparse.ArgumentParser(prog="scripts/targets.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--budget", type=float, default=30, metavar="MINUTES", help="for everything together (default: 30)")
    ap.add_argument("--only", type=lambda s: s.split(","), metavar="LIST", help=f"of {', '.join(JOBS)}")
    ap.add_argument("--peers", action="store_true", help="the peers' rows as well, in half of the time")
    ap.add_argument("--compiled", action="store_true", help="with --peers: transformers compiled with frozen weights, too")
    ap.add_argument("--python", default=sys.executable, help="for the peers: one with torch, transformers, gguf")
    ap.add_argument("--layers", type=int, help="of both towers: a quick look whether everything runs, not a result")
    command_line.add_common(ap)
    return command_line.parse(ap, "only", JOBS)


def main():
    args = options()
    out = table.Table(args.output)
    with contextlib.ExitStack() as stack:
        b = Bench(args, out, Scratch(args.scratch or stack.enter_context(tempfile.TemporaryDirectory(prefix="paligrid-targets."))))
        begin = time.monotonic()
        if args.peers:
            b.end -= 30 * args.budget
        run_jobs(b)
        b.end = begin + 60 * args.budget
        if args.peers:
            peers(b)
    return out.end(f"; {(time.monotonic() - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    sys.exit(main())
