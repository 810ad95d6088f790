#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 200
"""A clock that jumps by a year, back and forth, while a batch runs: no deadline comes early, no lock goes stale, the
same bytes. libfaketime (Debian: faketime) changes what the program reads as the time of day; without it: skipped."""
import glob
import os
import sys
import threading
import time

from batch_case import IMAGES, MODEL, batch, finish, fresh, read, start
from program_case import TMP, check, main, skip

FAKES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
N = 400


def many():
    """A list of N pictures."""
    path = os.path.join(TMP, "many.txt")
    names = sorted(os.listdir(IMAGES))
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(os.path.join(IMAGES, names[i % len(names)]) + "\n" for i in range(N))
    return "@" + path


class Jumps:
    """The environment of a program whose clock jumps every 50 ms until the end of the block."""

    def __init__(self):
        self.path = os.path.join(TMP, "offset")
        self.over = threading.Event()
        self.n = 0
        self.env = {"LD_PRELOAD": FAKES[0], "FAKETIME_TIMESTAMP_FILE": self.path, "FAKETIME_NO_CACHE": "1",
                    "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}

    def jump(self):
        while not self.over.is_set():
            with open(self.path + ".new", "w", encoding="utf-8") as f:
                f.write(("+400d", "-400d", "+0")[self.n % 3] + "\n")
            os.replace(self.path + ".new", self.path)
            self.n += 1
            time.sleep(0.05)

    def __enter__(self):
        self.thread = threading.Thread(target=self.jump)
        self.thread.start()
        time.sleep(0.2)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_same_bytes():
    source, calm, out = many(), fresh("calm"), fresh("jumpy")
    status, err = batch(1, source, calm)
    check("calm", status == 0, err)
    with Jumps() as j:
        status, err = batch(1, source, out, "--deadline", "600", env=j.env)
        check("jumps while it ran", j.n > 10, j.n)
    check("jumpy", status == 0, (status, err))
    check("the clock was another one", any(line[:4] not in (time.strftime("%Y"), "") for line in err.splitlines()), err)
    check("same bytes", read(out) == read(calm))


def test_lock_stays():
    source, out = many(), fresh("locked")
    with Jumps() as j:
        words = ["batch", "--model", MODEL, "--input", source, "-o", out, "--prompt", "caption en"]
        first = start(1, *words, env=j.env)
        while not os.path.exists(os.path.join(out, "LOCK")) and first.poll() is None:
            time.sleep(0.01)
        time.sleep(0.1)
        status, err = batch(1, source, out, env=j.env)
        alive = first.poll() is None
        check("a second job is refused", not alive or (status == 74 and str(first.pid) in err), (status, err))
        status, err = finish(first)
        check("the first one ends well", status == 0, (status, err))


if __name__ == "__main__":
    if not FAKES:
        skip("libfaketime is missing (apt-get install faketime)")
    sys.exit(main([test_same_bytes, test_lock_stays]))
