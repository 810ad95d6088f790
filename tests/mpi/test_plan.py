#!/usr/bin/env python3
# RANKS: 1
"""`paligrid plan` as a user meets it: the table, JSON, a machine's file, what does not fit."""
import json
import os
import sys

from program_case import MICRO, TMP, check, program, verdict

def plan(*args):
    return program("plan", *args, env={"PATH": os.environ.get("PATH", "")})


def rows(*args):
    return json.loads(plan("--json", *args)[1])["rows"]


BIG = ["--model", "28b-896", "--nodes", "8", "--ranks-per-node", "4"]
code, text, err = plan(*BIG, "--memory", "80GB", "--device", "h100", "--input-count", "1000000")
check("a table", code == 0 and "node-hours" in text and text.count("<- chosen") == 1 and "assumed, not measured" in text, (text, err))
r = rows(*BIG, "--memory", "80GB", "--device", "h100", "--input-count", "1000000")
check("groups that divide 32 ranks", [x["tp"] for x in r] == [1, 2, 4, 8, 16, 32] and [x["replicas"] for x in r] == [32, 16, 8, 4, 2, 1], r)
check("memory falls", all(a["rank_bytes"] > b["rank_bytes"] for a, b in zip(r, r[1:])), r)
check("the smallest that fits is chosen", [x["chosen"] for x in r] == [x["tp"] == 2 for x in r], r)
r = rows(*BIG, "--memory", "40GB", "--device", "h100")
check("less memory, larger groups", [x["tp"] for x in r if x["chosen"]] == [4], r)
r = rows(*BIG, "--memory", "80GB", "--batch", "1")
check("keys and values count", [x["tp"] for x in r if x["chosen"]] == [1], r)
code, text, err = plan("--model", "28b-896", "--ranks-per-node", "2", "--memory", "1GB")
check("nothing fits", code == 71 and "a rank with tp=2" in err and "<- chosen" not in text, (code, text, err))
r = rows("--model", "3b-224", "--ranks-per-node", "5", "--tp", "3")
check("ranks left over", len(r) == 1 and r[0]["idle"] == 2 and r[0]["replicas"] == 1, r)
check("too many ranks a replica", plan("--model", "3b-224", "--ranks-per-node", "16", "--tp", "9")[0] == 64)
check("a folder", plan("--model", MICRO)[0] == 0, plan("--model", MICRO))
for args, words in (([], "needs --model"), (["--model", "28b-896", "--memory", "much"], "--memory: 'much'"),
                    (["--model", "3b-224", "--machine", "/nonexistent.conf"], "/nonexistent.conf")):
    code, _, err = plan(*args)
    check(args, code == 64 and words in err, (code, err))
machine = os.path.join(TMP, "machine.conf")
for tflop_s in (1, 2):
    with open(machine, "w") as f:
        f.write(f"name = mine\nunits = 2\ntflop_s = {tflop_s}\nelement_g_s = 1e6\nread_gb_s = 1e6\nstep_tflop_s = 1000\n")
    r = rows("--model", "3b-224", "--machine", machine)
    check("time is work over rate", abs(r[0]["prefill_s"] * tflop_s / 1.077 - 1) < 0.01, (tflop_s, r))
code, text, _ = plan("--model", "3b-224", "--machine", machine, "--print-machine")
check("its rates", code == 0 and "tflop_s = 2\n" in text and "name = mine\n" in text, text)
sys.exit(verdict())
