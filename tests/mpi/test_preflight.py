#!/usr/bin/env python3
# RANKS: 1 3
"""`run --preflight`: one table on stderr before the answer, which stays what it is."""
import os
import re
import socket
import sys

from program_case import DATA, LAUNCH, MICRO, RANKS, check, program, verdict

RUN = ["run", "-m", MICRO, "-n", "4", "-p", "caption en", os.path.join(DATA, "images", "rgb.png")]
def run(*args):
    return program(*RUN, *args, launch=LAUNCH)


plain = run()
code, out, err = run("--preflight")
host = socket.gethostname()
check("the answer", (code, out) == plain[:2] and code == 0, (code, out, plain, err))
check("only when asked", "skew s" not in plain[2], plain[2])
rows = [line.split() for line in err.splitlines() if line.startswith(host[:16])]
check("one line for this host", len(rows) == 1 and rows[0][1] == str(RANKS), err)
check("threads, CPUs", len(rows) == 1 and int(rows[0][2]) >= 1 and re.fullmatch(r"\d+/\d+", rows[0][3]) and rows[0][4] in ("yes", "no"), err)
check("clocks agree", len(rows) == 1 and float(rows[0][5]) < 0.5, err)
told = re.search(r"exchange over (\d+) ranks \((\w+)\): 8 bytes in ([0-9.]+) to ([0-9.]+) us; 256 KiB at ([0-9.]+) GB/s", err)
if RANKS == 1:
    check("nobody to exchange with", not told, err)
else:
    check("the exchange", told and int(told[1]) == RANKS and 0 < float(told[3]) <= float(told[4]) and float(told[5]) > 0, err)
    code, _, err = run("--preflight", "--comm", "mpi")
    check("over messages", code == 0 and "ranks (mpi)" in err, err)
if RANKS > os.cpu_count():
    check("oversubscription is told", "more threads" in err, err)
code, out, err = run("--threads", "99")
check("more threads change no answer", (code, out) == plain[:2], (code, out, err))
told = re.search(r"(\d+) of its (\d+) ranks share (\d+) CPUs \((\d+) cores\).* and have 99 threads each: .*; (\d+) each fit", err)
check("and are told, with numbers", told and int(told[2]) == RANKS and int(told[3]) == len(os.sched_getaffinity(0)), err)
check("what fits does fit", told and int(told[5]) >= 1 and (int(told[1]) * int(told[5]) <= int(told[3]) or int(told[5]) == 1), err)
check("told once", err.count("threads each") == 1, err)
check("the default is silent", "threads each" not in plain[2], plain[2])
cpus = sorted(os.sched_getaffinity(0))
if RANKS > 1 and len(cpus) > 1:
    code, out, err = program(*RUN, launch=["taskset", "-c", str(cpus[0]), *LAUNCH])
    check("bound ranks answer the same", (code, out) == plain[:2], (code, out, err))
    check("idle CPUs are told of", re.search(rf"its {RANKS} ranks are bound to 1 of \d+ CPUs", err), err)
    code, _, err = program(*RUN, "--preflight", launch=["taskset", "-c", str(cpus[0]), *LAUNCH])
    check("idle CPUs are told of once", code == 0 and err.count("are bound to") == 1, err)
    check("none are idle by default", "are bound to" not in plain[2], plain[2])
sys.exit(verdict())
