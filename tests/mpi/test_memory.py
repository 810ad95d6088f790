#!/usr/bin/env python3
# RANKS: 1
# TIMEOUT: 120
"""A plan that does not fit this machine is refused at once, with the numbers, whatever the rank count;
and what is told beforehand is what is used."""
import json
import os
import re
import sys
import time

from program_case import DEMO, DEMO_IMAGES, LOCAL, check, main, program

IMAGE = os.path.join(DEMO_IMAGES, "02_one_224.jpg")
def run(*args, ranks=1):
    return program("run", "--prompt", "caption en", *args, IMAGE, launch=[LOCAL, "-n", str(ranks), "--"])


def free_mib():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) // 1024 for line in f if line.startswith("MemAvailable"))


def test_refusal():
    if free_mib() > 50000:
        print("skipped: this machine has room for 28B in bf16, so nothing can be refused")
        return
    for ranks in (1, 2):
        start = time.monotonic()
        rc, out, err = run("--model", "synthetic:28b-896", ranks=ranks)
        told = [line for line in err.splitlines() if " error " in line]
        check(f"{ranks} ranks: refused", rc == 71 and out == "" and len(told) == 1, (rc, err))
        m = re.search(rf"{ranks} rank\(s\) plan (\d+) MiB \(weights (\d+), .*and (\d+) MiB are free", told[0] if told else "")
        check(f"{ranks} ranks: numbers", m and int(m[1]) > int(m[2]) > 50000 and int(m[3]) < int(m[1]), told)
        check(f"{ranks} ranks: before anything was made", time.monotonic() - start < 60)


def test_plan_is_what_is_used():
    for form in ("auto", "int8", "int4"):
        rc, out, err = run("--model", DEMO, "--weights", form, "--json")
        told = re.search(r"mib_per_rank=([\d.]+)", err)
        used = json.loads(out)["memory"] if rc == 0 else {}
        total = sum(v for k, v in used.items() if k in ("weights", "kv", "step", "features", "exchange"))
        check(f"{form}: told and used", told and abs(float(told[1]) - total / 1048576) < 0.1, (err, used))


if __name__ == "__main__":
    sys.exit(main([test_refusal, test_plan_is_what_is_used]))
