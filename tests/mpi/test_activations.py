#!/usr/bin/env python3
# RANKS: 1 2 3
"""--activations int8: the same answers and log-probabilities on any number of ranks and threads, written into every row,
different from those of exact activations, and refused by name where there is nothing that it could change."""
import json
import os
import sys

from program_case import DEMO, DEMO_IMAGES, LAUNCH, PALIGRID, RANKS, check, main, program, tests_in

IMAGE = os.path.join(DEMO_IMAGES, sorted(f for f in os.listdir(DEMO_IMAGES) if f.endswith((".png", ".jpg")))[0])
INT8 = ["--weights", "int8", "--activations", "int8"]


def answers(*args, launch=LAUNCH):
    status, out, err = program("run", "--model", DEMO, "--json", "--log-level", "warn", "-n", "8", "--ignore-eos", "-p", "caption en",
                               "-p", "detect circle", *args, IMAGE, launch=launch)
    check(f"{args}: status", status == 0, err)
    return [json.loads(line) for line in out.splitlines()]


def said(rows):
    return [(r["text"], r["logprob"]) for r in rows]


def has(isa):
    status, _, _ = program("run", "--model", DEMO, "--isa", isa, "--device", "cpu", "-n", "1", "-p", "caption en", IMAGE)
    return status == 0


def devices():
    """Of this machine's tables for CPUs the best, that with AVX-512 alone (VNNI, where it is), and that without."""
    found = [["--device", "cpu", "--isa", isa] for isa in ("auto", "avx512", "avx2") if has(isa)]
    return found or [["--device", "ref"]]


def test_other_instructions():
    for on in devices()[1:]:
        one = said(answers(*INT8, *on, "-t", "1", launch=()))
        check(f"{on}, {RANKS} ranks", said(answers(*INT8, *on, "-t", "2")) == one)


def test_same_answers():
    on = devices()[0]
    one = answers(*INT8, *on, "-t", "1", launch=())
    check("two answers", len(one) == 2, one)
    check("rows tell", all((r["weights"], r["activations"]) == ("int8", "int8") for r in one), one)
    for threads in ("1", "2"):
        check(f"{RANKS} ranks, {threads} threads", said(answers(*INT8, *on, "-t", threads)) == said(one))
    exact = answers("--weights", "int8", *on, launch=())
    check("rows tell of exact ones", all(r["activations"] == "auto" for r in exact), exact)
    check("int8 activations change something", said(exact) != said(one))


def test_refusals():
    for weights in ("auto", "bf16", "int4"):
        status, _, err = program("run", "--model", DEMO, "--weights", weights, "--activations", "int8", "-p", "caption en", IMAGE, launch=LAUNCH)
        check(f"{weights} weights", status == 64 and err.count("--activations int8 goes with int8 weights") == 1, (status, err))
    status, _, err = program("run", "--model", DEMO, "--activations", "int4", "-p", "caption en", IMAGE)
    check("no such activations", status == 64 and "activations" in err, (status, err))


def test_bench_rows():
    status, out, err = program("bench", "--model", DEMO, "-r", "1", "-n", "2", "--phases", "prefill", "-o", "json",
                               *devices()[0], *INT8, launch=LAUNCH)
    rows = [json.loads(line) for line in out.splitlines()]
    check("bench", status == 0 and rows and all(r["activations"] == "int8" for r in rows), (status, err, out))
    status, _, err = program("bench", "--model", DEMO, "--phases", "prefill", "--weights", "int8,bf16", "--activations", "int8",
                             "-r", "1", launch=LAUNCH)
    check("bench refuses bf16", status == 64 and "int8 weights" in err, (status, err))


if __name__ == "__main__":
    assert os.path.exists(PALIGRID)
    sys.exit(main(tests_in(globals())))
