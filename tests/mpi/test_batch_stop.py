#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 300
# SLOW
"""Ending early: signals, a deadline, a full disk, another job in the way, a torn journal. The same command goes on, and the end is
the same to the byte as without interruption.
"""
import os
import shutil
import signal
import subprocess
import sys
import time

from batch_case import MODEL, batch, finish, fresh, journal_lines, picture_set, read, start, wait_for
from program_case import ROOT, check, main

N = 200
state = {}


def args_for(out, *more):
    return ["batch", "--model", MODEL, "--input", state["folder"], "-o", out, "--prompt", "caption en", "--sync", "0.1", *more]


def some_done(out, n=1):
    """The journal holds records: the run is in the middle."""
    try:
        return len(journal_lines(out)) >= n
    except (OSError, ValueError):
        return False


def is_whole(what, out):
    check(f"{what}: as without interruption", read(out) == state["whole"])
    lines = [line["index"] for line in journal_lines(out)]
    check(f"{what}: nothing lost, nothing doubled", sorted(lines) == list(range(N)), (len(lines), len(set(lines))))


def prepare():
    state["folder"] = picture_set("many", N)
    out = fresh("whole")
    status, err = batch(1, state["folder"], out)
    check("a run without interruption", status == 0, err)
    state["whole"] = read(out)


def test_signals():
    for ranks, number, more in ((1, signal.SIGTERM, []), (1, signal.SIGUSR1, []), (3, signal.SIGUSR1, ["--tp", "1"])):
        out = fresh("signal")
        p = start(ranks, *args_for(out, *more))
        check(f"{number.name} on {ranks}: it began", wait_for(lambda: some_done(out)), finish)
        sent = time.monotonic()
        p.send_signal(number)  # mpirun hands SIGUSR1 on to all ranks
        status, err = finish(p)
        check(f"{number.name} on {ranks}: exit 75, in order", status == 75 and "reason=signal" in err, (status, err))
        check(f"{number.name} on {ranks}: soon", time.monotonic() - sent < 15)
        done = len(journal_lines(out))
        check(f"{number.name} on {ranks}: no end is claimed", 0 < done < N and not os.path.exists(os.path.join(out, "_SUCCESS")), done)
        status, err = batch(2, state["folder"], out)
        check(f"{number.name} on {ranks}: goes on", status == 0 and f"before={done}" in err, (status, err))
        is_whole(f"{number.name} on {ranks}", out)


def test_second_signal():
    out = fresh("second")
    p = start(1, *args_for(out, "--max-new-tokens", "400", "--ignore-eos"))
    check("it began", wait_for(lambda: os.path.exists(os.path.join(out, "run.json"))))
    time.sleep(0.5)
    p.send_signal(signal.SIGINT)
    time.sleep(0.2)
    p.send_signal(signal.SIGINT)
    sent = time.monotonic()
    status, err = finish(p)
    check("the second SIGINT ends at once with 130", status == 130 and time.monotonic() - sent < 5, (status, err))


def test_second_signal_while_packing():
    """The packer is held by a FIFO in the place of its first file, so that both signals come while it is at work."""
    out = fresh("packing")
    p = start(1, *args_for(out))
    check("it began", wait_for(lambda: some_done(out)))
    fifo = os.path.join(out, "results.jsonl.tmp")
    os.mkfifo(fifo)
    check("every record is journalled", wait_for(lambda: some_done(out, N), 60))
    time.sleep(0.5)
    for _ in range(2):
        p.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    check("it waits for a reader", p.poll() is None)
    with open(fifo, "rb") as f:
        f.read()
    status, err = finish(p)
    check("packing ends with 75", status == 75 and "reason=second signal" in err, (status, err))
    check("nothing is packed", not {"_SUCCESS", "results.jsonl", "results.jsonl.tmp"} & set(os.listdir(out)), os.listdir(out))
    status, err = batch(1, state["folder"], out)
    check("the same command packs", status == 0 and f"before={N}" in err, (status, err))
    is_whole("second signal while packing", out)


def test_deadline():
    out = fresh("deadline")
    endless = picture_set("endless", 10000)  # for any machine
    began = time.monotonic()
    status, err = finish(start(2, *args_for(out, "--deadline", "4", "--max-new-tokens", "30", "--ignore-eos", "--input", endless)))
    took = time.monotonic() - began
    check("a deadline", status == 75 and "reason=deadline" in err, (status, err))
    check("is kept, but for the start of this test and the end of MPI", took < 15, took)
    done = len(journal_lines(out))
    check("and used", 0 < done < 10000, done)


def test_two_jobs():
    out = fresh("two")
    p = start(1, *args_for(out))
    check("the first began", wait_for(lambda: some_done(out)))
    status, err = batch(2, state["folder"], out)
    check("the second is refused, and the holder named", status == 74 and str(p.pid) in err, (status, err))
    status, err = finish(p)
    check("the first does not mind", status == 0, (status, err))
    is_whole("two jobs", out)


def test_kill_and_torn_journal():
    out = fresh("torn")
    p = start(1, *args_for(out))
    check("it began", wait_for(lambda: some_done(out, 20)))
    p.kill()
    finish(p)
    folder = os.path.join(out, "journal")
    segment = os.path.join(folder, sorted(os.listdir(folder))[-1])
    with open(segment, "rb") as f:
        text = f.read()
    lines = text.splitlines(keepends=True)
    last_two = len(lines[-1]) + len(lines[-2])
    kept = fresh("torn-kept")
    shutil.copytree(out, kept)
    for cut in range(1, last_two, max(1, last_two // 2)):
        shutil.rmtree(out)
        shutil.copytree(kept, out)
        with open(segment, "wb") as f:
            f.write(text[:-cut])
        status, err = batch(3, state["folder"], out, "--batch", 4)
        check(f"torn by {cut} bytes", status == 0, (status, err))
        is_whole(f"torn by {cut} bytes", out)


def test_full_disk():
    mount = fresh("small")
    os.makedirs(mount)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mount], stderr=subprocess.DEVNULL).returncode:
        print("a full disk: not tried, since this user may not mount")
        return
    try:
        out = os.path.join(mount, "out")
        p = start(2, *args_for(out, "--tp", "1"))
        check("it began", wait_for(lambda: some_done(out)))
        filler = os.path.join(mount, "filler")
        try:
            with open(filler, "wb", buffering=0) as f:
                while f.write(b"x" * 4096) == 4096:
                    pass
        except OSError:
            pass
        status, err = finish(p)
        check("a full disk: exit 75", status == 75 and "cannot be written" in err, (status, err))
        os.remove(filler)
        status, err = batch(3, state["folder"], out)
        check("space again: goes on", status == 0 and "before=0 " not in err, (status, err))
        is_whole("full disk", out)
    finally:
        subprocess.run(["umount", mount], check=False)


def test_lost_replica():
    """A rank that is stopped shows no life: it is named, and the job ends instead of hanging."""
    out = fresh("lost")
    p = start(3, *args_for(out, "--tp", "1", "--comm-timeout", "4", "--max-new-tokens", "60", "--ignore-eos"))
    check("it began", wait_for(lambda: some_done(out)))
    ranks = subprocess.run(["pgrep", "-P", str(p.pid)], stdout=subprocess.PIPE, text=True).stdout.split()
    victim = int(ranks[2])
    os.kill(victim, signal.SIGSTOP)
    status, err = finish(p, 60)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        pass
    check("a stopped replica is named", "has shown no life" in err and "it had records" in err, err)
    check("and ends the job", status not in (0, 75, -1), (status, err))
    status, err = batch(1, state["folder"], out, "--max-new-tokens", "60", "--ignore-eos", "--limit", "3")
    check("its directory is good", status == 0, (status, err))


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main([prepare, test_signals, test_second_signal, test_second_signal_while_packing, test_deadline, test_two_jobs,
                   test_kill_and_torn_journal, test_full_disk, test_lost_replica]))
