#!/usr/bin/env python3
# RANKS: 2 3
# TIMEOUT: 180
"""A stopped rank is named: by `paligrid status` while the others wait, and by their last message.

Ranks run bench on the small checkpoint; the last one is stopped by SIGSTOP. The others must end the
job within the deadline and a few seconds, with exit status 70 and a message that has the stopped
process, its state, its phase and since when. The next start removes what the dead left.
"""
import json
import os
import signal
import subprocess
import sys
import time

from program_case import LAUNCH, MICRO, PALIGRID, RANKS, TMP, check, program, verdict

WATCH = os.path.join(TMP, "watch")
DEADLINE_S = 2
def status(*args):
    return program("status", *args, env=ENV)


def ranks():
    return json.loads(status("--json")[1])["ranks"]


def wait_for(what, condition):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        seen = ranks()
        if condition(seen):
            return seen
        time.sleep(0.05)
    check(what, False, seen)
    sys.exit(1)


def test_a_stopped_rank_is_named():
    job = subprocess.Popen([*LAUNCH, PALIGRID, "bench", "-m", MICRO, "-r", "100", "-n", "64", "--device", "ref", "--comm-timeout", str(DEADLINE_S),
                            "--phases", "vision,prefill,decode"], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seen = wait_for("all ranks compute", lambda r: len(r) == RANKS and all(x["phase"] in ("vision", "prefill", "decode") for x in r))
    check("ranks in order", [r["rank"] for r in seen] == list(range(RANKS)) and len({r["job"] for r in seen}) == 1, seen)
    victim = seen[-1]["pid"]
    os.kill(victim, signal.SIGSTOP)
    start = time.monotonic()
    try:
        seen = wait_for("status says stopped", lambda r: r[-1]["state"] == "stopped" or job.poll() is not None)
        check("one is stopped", [r["state"] == "stopped" for r in seen] == [False] * (RANKS - 1) + [True] or job.poll() is not None, seen)
        code, text, _ = status()
        check("as a table", code == 0 and "phase" in text and str(victim) in text, text)
        err = job.communicate(timeout=60)[1].decode(errors="replace")
    finally:
        try:
            os.kill(victim, signal.SIGCONT)
        except ProcessLookupError:
            pass
    took = time.monotonic() - start
    check("exit status", job.returncode == 70, (job.returncode, err))
    check("in time", took < DEADLINE_S + 10, took)
    named = [x for x in err.splitlines() if f"waited {DEADLINE_S}.0 s for rank {RANKS - 1} on " in x]
    check("named with its process", any(f"[pid {victim} is stopped; " in x for x in named), err)
    check("with its phase", any(f" is stopped; {p}" in x for x in named for p in ("vision", "prefill", "decode")), err)


def test_nothing_is_left():
    code, _, err = program("bench", "-m", MICRO, "-r", "1", "--phases", "comm", launch=LAUNCH, env=ENV)
    check("the next run", code == 0, err)
    check("no file is left", os.listdir(WATCH) == [], os.listdir(WATCH))
    check("no job", status()[1] == "no job on this host\n", status())


def test_output_directory():
    out = os.path.join(TMP, "out")
    os.makedirs(os.path.join(out, "journal"))
    check("an empty folder", status(TMP)[0] == 65, status(TMP))
    check("no folder", status(os.path.join(TMP, "missing"))[0] == 74)
    with open(os.path.join(out, "journal", "000000.jsonl"), "w") as f:
        f.write("{}\n{}\n")
    with open(os.path.join(out, "LOCK"), "w") as f:
        f.write('{"host":"elsewhere","boot":"b","job":"","start":"2026-01-01T00:00:00Z","token":"0","pid":7,"beat":3}   \n')
    with open(os.path.join(out, "metrics.prom"), "w") as f:
        f.write("# HELP paligrid_records_total x\npaligrid_records_total 12\n")
    code, text, _ = status(out)
    check("held elsewhere", code == 0 and "held by pid 7 on elsewhere" in text and "2 lines in 1 segments" in text and "records_total 12" in text, text)
    seen = json.loads(status(out, "--json")[1])
    check("as JSON", seen["running"] and not seen["complete"] and seen["metrics"] == {"paligrid_records_total": 12} and seen["journal"]["lines"] == 2, seen)
    open(os.path.join(out, "LOCK"), "w").close()
    open(os.path.join(out, "_SUCCESS"), "w").close()
    code, text, _ = status(out)
    check("complete", code == 0 and "complete" in text, text)


os.makedirs(WATCH)
ENV = dict(os.environ, PALIGRID_WATCH_DIR=WATCH)
test_output_directory()
test_a_stopped_rank_is_named()
test_nothing_is_left()
sys.exit(verdict())
