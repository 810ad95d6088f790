#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 300
# SLOW
"""Bad pictures, one to five good ones: every good record is answered as without them, every bad one is named, on 1, 2 and 4 ranks.

The poison: a truncated JPEG, a PNG that claims 10^10 pixels, one that inflates to gigabytes, a FIFO, a link to nothing, a file
that may not be read, a page of HTML, an empty file, a GIF that crashed a decoder, a directory's name. A picture of one pixel is
good. Then: failures that are kept, failures that are tried again, and too many of them.
"""
import json
import os
import struct
import sys
import zlib

from batch_case import IMAGES, batch, fresh, picture_set, read, rows
from program_case import ROOT, TMP, check, main


def put(content):
    def make(path):
        with open(path, "wb") as f:
            f.write(content)
    return make


def truncated(path):
    with open(os.path.join(IMAGES, "02_one_224.jpg"), "rb") as f:
        content = f.read()
    put(content[:len(content) // 2])(path)


def png(width, height, rows_of_data):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows_of_data, 9)) + chunk(b"IEND", b""))


def denied(path):
    put(b"\xff\xd8\xff")(path)
    os.chmod(path, 0)


# Two frames, the second one larger than the screen and with "restore to background": stb_image's old trouble.
GIF = (b"GIF89a\x02\x00\x02\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x08\x00\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x02D\x01\x00;")

BAD = [("cut.jpg", truncated), ("huge.png", put(png(100000, 100000, b"\0" * 1000))), ("bomb.png", put(png(30000, 30000, b"\0" * (90001 * 300)))),
       ("fifo.jpg", os.mkfifo), ("nothing.jpg", lambda path: os.symlink("/nonexistent/x.jpg", path)), ("page.jpg", put(b"<!DOCTYPE html><p>404")),
       ("empty.png", put(b"")), ("crash.gif", put(GIF)), ("pixel.png", put(png(1, 1, b"\0\x10\x20\x30")))]
if os.geteuid() != 0:  # root may read everything
    BAD.append(("denied.jpg", denied))


def listing(folder):
    """FIFOs and links to nothing are no pictures of a directory: they are named in a list."""
    path = folder + ".txt"
    with open(path, "w") as f:
        for name in sorted(os.listdir(folder)):
            f.write(os.path.join(folder, name) + "\n")
    return "@" + path


def test_poison():
    folder = picture_set("poison", 5 * len(BAD), BAD)
    names = sorted(os.listdir(folder))
    good = [i for i, n in enumerate(names) if "~" not in n or "pixel" in n]
    clean = fresh("clean")
    status, err = batch(1, picture_set("clean-set", 12), clean)
    check("clean", status == 0, err)
    texts = {r["id"].split("_", 1)[1]: (r["text"], r["logprob"]) for r in rows(clean)}
    first = None
    for ranks, args in ((1, []), (2, ["--tp", 1, "--batch", 3]), (4, ["--tp", 2])):
        out = fresh("poisoned")
        status, err = batch(ranks, listing(folder), out, "--max-error-rate", 1, *args)
        check(f"{ranks} ranks: complete, with failures", status == 1 and os.path.exists(os.path.join(out, "_SUCCESS")), (status, err))
        seen, bad = rows(out), rows(out, "errors.jsonl")
        check(f"{ranks} ranks: every good one", [r["index"] for r in seen] == good, [r["index"] for r in seen])
        check(f"{ranks} ranks: every bad one", [r["index"] for r in bad] == [i for i in range(len(names)) if i not in good], bad)
        for r in bad:
            name = names[r["index"]]
            check(f"{name} is named with a reason", name in r["reason"] and len(r["reason"]) > len(name) + 5, r)
        for r in seen:
            key = names[r["index"]].split("_", 1)[-1]
            check(f"{key} as without poison", key not in texts or texts[key] == (r["text"], r["logprob"]), r)
        first = first or (read(out), read(out, "errors.jsonl"))
        check(f"{ranks} ranks: the same bytes", first == (read(out), read(out, "errors.jsonl")))


def test_failures_are_kept_or_tried_again():
    folder = picture_set("mended", 5, [("late.jpg", truncated)])
    out = fresh("mended-out")
    status, err = batch(1, folder, out)
    check("one failure", status == 1 and len(rows(out)) == 5 and len(rows(out, "errors.jsonl")) == 1, (status, err))
    bad = os.path.join(folder, sorted(n for n in os.listdir(folder) if "~" in n)[0])
    with open(os.path.join(IMAGES, "02_one_224.jpg"), "rb") as f:
        put(f.read())(bad)
    status, err = batch(2, folder, out)
    check("it is kept", status == 1 and "answered=0" in err and len(rows(out, "errors.jsonl")) == 1, (status, err))
    status, err = batch(2, folder, out, "--retry-errors=missing")
    check("it is of another class", status == 1 and "answered=0" in err, (status, err))
    status, err = batch(2, folder, out, "--retry-errors")
    check("it is tried again", status == 0 and "answered=1" in err and len(rows(out)) == 6 and not rows(out, "errors.jsonl"), (status, err))
    check("and answered", rows(out)[5]["text"] == rows(out)[1]["text"], rows(out)[5])


def test_too_many():
    folder = picture_set("rotten", 90, [(f"{i}.jpg", put(b"not a picture")) for i in range(40)])
    out = fresh("rotten-out")
    status, err = batch(2, folder, out, "--max-error-rate", 0.1)
    check("too many failures", status == 65 and "max-error-rate" in err and not os.path.exists(os.path.join(out, "_SUCCESS")), (status, err))
    status, err = batch(2, folder, out, "--max-error-rate", 1)
    check("going on", status == 1 and len(rows(out)) == 90 and len(rows(out, "errors.jsonl")) == 40, (status, err))
    folder = picture_set("late-rot", 0, [(f"{i}.jpg", put(b"not a picture")) for i in range(100)])
    status, err = batch(1, folder, fresh("late-rot-out"))
    check("too many with the last of the input", status == 65 and "max-error-rate" in err, (status, err))


def test_long_stretch():
    """Nothing but broken records for long: results are synced in between, so signals are heard and memory is bounded, too."""
    manifest, out = os.path.join(TMP, "stretch.jsonl"), fresh("stretch-out")
    with open(manifest, "w") as f:
        f.write('{"image": 1}\n' * 20000)
    status, err = batch(1, manifest, out, "--format", "manifest", "--max-error-rate", 1, "--sync", 0.001)
    with open(os.path.join(out, "stats.json")) as f:
        run = json.load(f)["run"]
    check("a long stretch", status == 1 and run["failed"] == 20000 and run["syncs"] >= 5, (status, run, err))


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main([test_poison, test_failures_are_kept_or_tried_again, test_too_many, test_long_stretch]))
