#!/usr/bin/env python3
"""paligrid and the programs a user would pick instead, on one machine, in turns.

    scripts/bench_peers.py [--preset 3b-224] [--layers 4 --vision-layers 4] [--peers transformers,llama-q4_0] [--batch 1,4]

Peers: transformers (bf16, its defaults), compiled (transformers by torch.compile with frozen weights; minutes of compiling, so it
must be asked for), llama-bf16, llama-q8_0 and llama-q4_0 (llama.cpp's Gemma 2 decoder beside paligrid's in bf16, int8 and int4), and
gemma.cpp (8 bits beside int8). What is missing is said, and the others are measured.

A round is: probes of the machine, one side, the other side, probes. It does not count when the probes differ by more than 15 %. Told is
the median of the rounds' own ratios; above 1, paligrid is faster. Weights are synthetic, of the preset's dimensions (transformers have
the same values); --layers takes less disk, memory and time. Both sides are in memory all the time; with --apart, one after the other,
which takes a loading of each for every round. transformers need torch and transformers, llama.cpp needs gguf, all in the Python that
runs this.

Exit status: 0 nothing missed, 1 something was missed or failed, 77 no peer could be measured.
"""
import argparse
import contextlib
import sys
import tempfile

from bench import aims, checkpoint, command_line, paligrid, rounds, scratch, table
from bench.peer_gemma_cpp import GemmaCpp
from bench.peer_llama import Llama, find
from bench.worker import Missing, Worker

NOTHING_TO_COMPARE = 77
DEFAULT = "transformers,llama-bf16,llama-q8_0,llama-q4_0,gemma.cpp"
# peer: how paligrid holds its weights beside it, and what is compared, in one process of the peer after the other
PEERS = {
    "transformers": ("auto", [("vision", "prefill", "decode")]),
    "compiled": ("auto", [("vision", "prefill"), ("decode",)]),
    "llama-bf16": ("bf16", [("prefill_text", "decode")]),
    "llama-q8_0": ("int8", [("prefill_text", "decode")]),
    "llama-q4_0": ("int4", [("prefill_text", "decode")]),
    "gemma.cpp": ("int8", [("vision", "prefill_text", "decode")]),
}


class Asked:
    """A worker as a side of a comparison."""

    def __init__(self, worker):
        self.worker, self.name = worker, worker.name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.worker.close()

    def measure(self, batch):
        return self.worker.ask(batch=batch)


def open_peer(peer, phases, args):
    if peer == "gemma.cpp":
        return GemmaCpp(args.preset, args.scratch, args)
    if peer.startswith("llama-"):
        return Llama(find(args.llama), args.preset, args.layers, peer.removeprefix("llama-").upper(), args.scratch, args)
    try:
        model = checkpoint.make(args.scratch, args.preset, args.layers, args.vision_layers)
    except Exception as e:
        raise Missing(f"no checkpoint: {e}") from e
    options = ["--threads", args.threads, "--text-tokens", args.text_tokens, "--new-tokens", args.new_tokens]
    return Asked(Worker("peer_transformers.py", model, *options, *(["--compiled", ",".join(phases)] if peer == "compiled" else [])))


def compare(peer, phases, args, out):
    weights = PEERS[peer][0]
    model = checkpoint.synthetic(args.preset, args.layers, args.vision_layers)
    passes = [p for p in paligrid.PASSES if p in phases or p + "_text" in phases]

    def paced():
        return paligrid.Paced(args.program, model, "--text-tokens", args.text_tokens, "--max-new-tokens", args.new_tokens, "--greedy",
                              args.greedy, "--int4-group", args.int4_group, weights=weights, threads=args.threads, max_batch=max(args.batch), phases=passes)
    with open_peer(peer, phases, args) as theirs, paligrid.Apart(paced, args.program, args.threads) if args.apart else paced() as ours:
        for batch in args.batch:
            compared = phases if batch == 1 else ("decode",) if "decode" in phases else ()
            if not compared:
                continue
            for _ in range(2 if peer == "compiled" else 0):  # the first calls compile
                theirs.measure(batch)
            ratios = rounds.in_turns(lambda: ours.round(batch), lambda: theirs.measure(batch), ours.probe, compared, args.rounds, args.seconds,
                                     is_warm=args.apart)
            for phase in compared:
                add_row(out, ratios, peer, theirs.name, phase, batch, args)


def add_row(out, ratios, peer, name, phase, batch, args):
    what = f"{phase} b{batch}" if batch > 1 else phase
    held = {"auto": "bf16"}.get(PEERS[peer][0], PEERS[peer][0])
    group = f":{args.int4_group}" if held == "int4" and args.int4_group != "32" else ""
    setting = f"{args.preset} {held}{group} t{args.threads}"
    values = ratios.summary(phase)
    notes = [f"{args.layers} layers" if args.layers else "", f"{args.vision_layers} vision layers" if args.vision_layers else "",
             "greedy screened" if args.greedy == "screened" and phase == "decode" else ""]
    if values is None:
        values = {"dropped": ratios.dropped[phase]}
        notes.append("no steady round")
    elif values["n"] < rounds.WANTED:
        notes.append(f"fewer than {rounds.WANTED} rounds")
    out.add(table.row(what, setting, name, aims.of_peer(peer, phase, batch, args.preset), ", ".join(n for n in notes if n), **values))


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--preset", default="3b-224")
    ap.add_argument("--layers", type=int)
    ap.add_argument("--vision-layers", type=int)
    ap.add_argument("--peers", type=lambda s: s.split(","), default=DEFAULT, metavar="LIST", help=f"of {', '.join(PEERS)} (default: all but compiled)")
    ap.add_argument("--batch", type=lambda s: [int(b) for b in s.split(",")], default="1", metavar="LIST", help="list of batches; of more than 1, decoding is compared (default: 1)")
    ap.add_argument("--seconds", type=float, help="no new round of a comparison after so long")
    ap.add_argument("--text-tokens", type=int, default=16)
    ap.add_argument("--gemma-cpp", metavar="PROGRAM")
    ap.add_argument("--gemma-weights", metavar="FILE.sbs")
    ap.add_argument("--gemma-tokenizer", metavar="FILE.model")
    ap.add_argument("--greedy", choices=("full", "screened"), default="full", help="how paligrid finds its tokens, which are the same (default: full)")
    ap.add_argument("--int4-group", choices=("32", "64"), default="32", help="of paligrid's int4 weights (default: 32)")
    ap.add_argument("--apart", action="store_true", help="beside llama.cpp and gemma.cpp: a side is in memory in its turns only")
    command_line.add_common(ap)
    return command_line.parse(ap, "peers", PEERS)


def main():
    args = options()
    out = table.Table(args.output)
    with contextlib.ExitStack() as stack:
        args.scratch = scratch.Scratch(args.scratch or stack.enter_context(tempfile.TemporaryDirectory(prefix="paligrid-peers.")))
        if not args.keep:
            stack.callback(args.scratch.remove_made)
        for peer in args.peers:
            for phases in PEERS[peer][1]:
                try:
                    compare(peer, phases, args, out)
                except (Missing, paligrid.Ended) as e:
                    verdict = "left out" if isinstance(e, Missing) else "failed"
                    out.add(table.row("peers", args.preset, peer, note=str(e), verdict=verdict))
                    break
    status = out.end()
    return NOTHING_TO_COMPARE if all(r["verdict"] == "left out" for r in out.rows) else status


if __name__ == "__main__":
    sys.exit(main())
