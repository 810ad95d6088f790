#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 600
# SLOW
"""More of `paligrid batch`: shapes, several prompts of an image, beams, drawing by chance, and what is refused."""
import os
import sys

from batch_case import IMAGES, batch, fresh, journal_lines, read, reference, rows
from program_case import ROOT, check, main

PROMPTS = ["caption en", "answer en what colour is it?"]


def test_more_shapes():
    whole = fresh("whole")
    batch(1, IMAGES, whole)
    for ranks, args in ((1, ["--batch", 3]), (2, ["--tp", 1, "--batch", 5]), (4, ["--tp", 2, "--batch", 2, "--vision", "tensor"]),
                        (4, ["--tp", 2, "--vision", "data"]), (5, ["--replicas", 5, "--batch", 1]),
                        (2, ["--comm", "mpi", "--tp", 2, "--queue-memory", "1kB"])):
        out = fresh("shapes")
        status, err = batch(ranks, IMAGES, out, *args)
        check(f"{ranks} ranks, {args}: complete", status == 0, (status, err))
        check(f"{ranks} ranks, {args}: the same bytes", read(out) == read(whole))


def test_prompts_share_an_image():
    out = fresh("prompts")
    status, err = batch(2, IMAGES, out, "--tp", 1, "--batch", 3, "--prompt", PROMPTS[1])
    seen = rows(out)
    check("two prompts", status == 0 and len(seen) == 24, (status, err))
    check("prompts in order", [r["prompt"] for r in seen] == PROMPTS * 12, seen)
    check("the answers of run", [r["text"] for r in seen] == reference(prompts=PROMPTS), seen)
    # one vision pass for both: what it took is told twice, to the microsecond
    by_image = {}
    for line in journal_lines(out):
        by_image.setdefault(line["image"], set()).add(line["vision_us"])
    check("one vision pass an image", all(len(v) == 1 for v in by_image.values()), by_image)


def test_ways_to_answer():
    for args in (["--greedy", "screened"], ["--beams", 3], ["--temperature", 1.5, "--seed", 7], ["--max-new-tokens", 2], ["--ignore-eos", "--max-new-tokens", 6]):
        first = None
        for ranks, shape in ((1, ["--batch", 4]), (2, ["--tp", 2, "--batch", 2]), (3, ["--tp", 1, "--batch", 1])):
            out = fresh("ways")
            status, err = batch(ranks, IMAGES, out, *args, *shape)
            check(f"{args} {shape}", status == 0, (status, err))
            first = first or read(out)
            check(f"{args} {shape}: the same bytes", read(out) == first)
        check(f"{args}: the answers of run", [r["text"] for r in rows(out)] == reference(*map(str, args)), rows(out))


def test_refusals():
    out = fresh("refused")
    batch(1, IMAGES, out, "--limit", 2)
    for args, words in ((["--max-new-tokens", 9], "max-new-tokens"), (["--ignore-eos"], "ignore-eos"), (["--exif", "ignore"], "exif"),
                        (["--weights", "int8"], "weights"), (["--weights", "int8", "--activations", "int8"], "activations"),
                        (["--greedy", "screened"], "greedy")):
        status, err = batch(1, IMAGES, out, *args)
        check(f"{args} are refused by name", status == 78 and words in err and "was" in err, (status, err))
    status, err = batch(2, IMAGES, out, prompt="answer en what is it?")
    check("another prompt is refused", status == 78 and "answer en what is it?" in err and "caption en" in err, (status, err))
    status, err = batch(3, IMAGES, fresh("x"), "--tp", 2)
    check("ranks left over are named", status == 64 and "leave ranks 2-2 of 3" in err, (status, err))
    for args, words in ((["--tp", 3, "--replicas", 2], "do not fit"), (["--memory", "1MB"], "--memory"), (["--export", "coco"], "coco"),
                        (["--greedy", "screened", "--export", "coco-detection"], "log-probabilities")):
        status, err = batch(1, IMAGES, fresh("x"), *args)
        check(f"{args}", status in (64, 71) and words in err, (status, err))
    for args, words in ((["--input", "/nonexistent"], "/nonexistent"), (["--queue-memory", "0"], "--queue-memory")):
        status, err = batch(1, IMAGES, fresh("x"), *args)
        check(f"{args}", status in (64, 65, 74) and words in err, (status, err))


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main([test_more_shapes, test_prompts_share_an_image, test_ways_to_answer, test_refusals]))
