#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 600
"""A data set on any number of ranks: the same results to the byte, equal to `paligrid run`'s, whatever T, R and batch.

Also going on with a finished or limited directory, and the files beside results.jsonl.
"""
import json
import os
import subprocess
import sys

from batch_case import IMAGES, batch, command, fresh, journal_lines, read, reference, rows
from program_case import ROOT, TMP, check, main


def test_shapes():
    first = None
    texts = reference()
    for ranks, args in ((1, ["--batch", 8]), (1, ["--batch", 1]), (2, ["--tp", 2]), (3, ["--batch", 2]), (4, ["--tp", 4, "--batch", 3]),
                        (5, ["--tp", 2, "--allow-idle"])):
        out = fresh("shapes")
        status, err = batch(ranks, IMAGES, out, *args)
        if not check(f"{ranks} ranks, {args}: complete", status == 0 and os.path.exists(os.path.join(out, "_SUCCESS")), (status, err)):
            continue
        seen = read(out)
        first = first or seen
        check(f"{ranks} ranks, {args}: the same bytes", seen == first, seen)
    check("the answers of run", [r["text"] for r in rows(out)] == texts, (rows(out), texts))


def test_going_on():
    out = fresh("going-on")
    status, err = batch(1, IMAGES, out, "--limit", 5)
    check("a part", status == 0 and len(rows(out)) == 5, (status, err))
    status, err = batch(2, IMAGES, out, "--tp", 1)
    check("the rest", status == 0 and "before=5" in err and "answered=7" in err, err)
    whole = fresh("whole")
    batch(1, IMAGES, whole)
    check("as one run", read(out) == read(whole))
    check("pictures by the input's names", [r["image"] for r in rows(out)] == sorted(os.listdir(IMAGES)), rows(out))
    check("nothing twice", sorted(line["index"] for line in journal_lines(out)) == list(range(12)))
    status, err = batch(3, IMAGES, out)
    check("nothing left to do", status == 0 and "answered=0" in err and "before=12" in err, (status, err))
    check("still the same", read(out) == read(whole))


def test_first_records():
    """What the first records need is found without --limit; what can be read once only is not looked at."""
    names = [os.path.join(IMAGES, n) for n in sorted(os.listdir(IMAGES))]
    manifest = os.path.join(TMP, "growing.jsonl")
    with open(manifest, "w") as f:
        for i in range(3):
            f.write(json.dumps({"images": names[:i + 1]}) + "\n")
    out = fresh("growing")
    status, err = batch(1, manifest, out, "--limit", 1)
    check("one picture", status == 0 and len(rows(out)) == 1, (status, err))
    status, err = batch(1, manifest, out)
    check("then more pictures", status == 0 and "answered=2" in err, (status, err))
    fifo = os.path.join(TMP, "growing.fifo")
    if not os.path.exists(fifo):
        os.mkfifo(fifo)
    with open(manifest, "w") as f:
        f.writelines(name + "\n" for name in names[:3])
    writer = subprocess.Popen(["sh", "-c", 'cat "$0" > "$1"', manifest, fifo])
    through = fresh("through")
    status, err = batch(1, fifo, through, "--format", "list")
    writer.kill()
    writer.wait()
    check("a FIFO", status == 0 and len(rows(through)) == 3, (status, err))
    status, err = batch(1, fifo, fresh("shared"), "--shards", 2)
    check("a FIFO in shards is refused", status == 64 and "growing.fifo can be read once only" in err, (status, err))
    status, err = batch(1, IMAGES, fresh("lost"), "--retry-errors=lost")
    check("a class that is none", status == 64 and '"lost"; there are missing' in err, (status, err))
    empty = fresh("empty")
    os.makedirs(empty)
    status, err = batch(1, empty, fresh("nothing"))
    check("a folder without pictures", status == 65 and f"{empty}: holds no pictures" in err, (status, err))


def test_files():
    out = fresh("files")
    listing = os.path.join(TMP, "list.txt")
    with open(listing, "w") as f:
        for name in sorted(os.listdir(IMAGES)):
            f.write(f"{os.path.join(IMAGES, name)}\n")
    status, err = batch(2, "@" + listing, out, "--export", "coco-caption,imagefolder")
    check("a list", status == 0, (status, err))
    whole = fresh("whole")
    batch(1, IMAGES, whole)
    check("the same answers", [r["text"] for r in rows(out)] == [r["text"] for r in rows(whole)])
    metrics = read(out, "metrics.prom").decode()
    check("metrics", "paligrid_records_done_total 12\n" in metrics and "# TYPE paligrid_tokens_total counter" in metrics, metrics)
    kept = read(out)
    for name in ("results.jsonl", "_SUCCESS"):
        os.remove(os.path.join(out, name))
    p = subprocess.run(command(1, "export", out, "--export", "coco-caption"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    check("export makes it again", p.returncode == 0 and read(out) == kept, p.stderr)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main([test_shapes, test_going_on, test_first_records, test_files]))
