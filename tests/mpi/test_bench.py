#!/usr/bin/env python3
# RANKS: 1 2
# TIMEOUT: 600
"""paligrid bench on a small checkpoint: every row has every field in every form, the lists
multiply, accounts add up to wall time, and a paced run does what its standard input says. Nothing is expected of the speed."""
import csv
import io
import json
import sys

from program_case import LAUNCH, MICRO as MODEL, RANKS, check, main, program, tests_in

PHASES = ["comm", "comm_tile", "load", "vision", "prefill_text", "prefill", "decode", "e2e"]
FIELDS = {"phase", "model", "weights", "activations", "greedy", "ranks", "threads", "batch", "median", "unit", "min", "max", "ms", "n", "discarded", "steady",
          "ceiling", "share_of_ceiling", "build", "cpu", "device"}


def bench(*args, lines=""):
    return program("bench", "-r", "2", "-n", "3", *args, launch=LAUNCH, input=lines.encode(), timeout=300)


def check_row(row, batch=1):
    check("fields", FIELDS <= set(row), sorted(FIELDS - set(row)))
    check("setting", (row["model"], row["ranks"], row["batch"], row["weights"]) == (MODEL, RANKS, batch, "bf16"), row)
    check("order", 0 <= row["min"] <= row["median"] <= row["max"], row)
    check("rounds", 0 <= row["n"] and 2 <= row["n"] + row["discarded"] <= 4, row)
    check("steady means that rounds count", row["steady"] == (row["n"] > 0), row)
    check("texts", all(isinstance(row[k], str) and row[k] for k in ("unit", "cpu", "device", "build")), row)
    if row["phase"] in ("comm", "comm_tile", "load"):
        check("no ceiling", row["ceiling"] is None and row["share_of_ceiling"] is None, row)
    elif row["device"] == "ref":
        check("ref has no probes", row["ceiling"] is None and row["gflop_s"] is None, row)
    else:
        check("ceiling", row["ceiling"] > 0 and 0 < row["share_of_ceiling"] < 10, row)


def check_account(row):
    account = dict(row["account_ms"])
    wall = account.pop("wall")
    check(f"{row['phase']}: account adds up", wall > 0 and abs(sum(account.values()) - wall) < 1e-6 + 1e-9 * wall, row)
    # The rest is a difference of two clocks on a shared machine: its sign says nothing. The others are sums.
    check(f"{row['phase']}: no family is negative", all(v >= 0 for k, v in account.items() if not k.endswith(".rest")), row)
    check(f"{row['phase']}: linear layers took time", any(v > 0 for k, v in account.items() if k.endswith(".linear")), row)
    towers = {k.split(".")[0] for k in account}
    want = {"vision": {"vision"}, "prefill_text": {"text"}, "prefill": {"vision", "text"}, "decode": {"text"}, "e2e": {"vision", "text"}}
    check(f"{row['phase']}: towers", towers == want[row["phase"]], towers)
    if row["phase"] != "vision":
        check(f"{row['phase']}: products and logits are told apart", account["text.logits"] > 0 and account["text.linear_fixed"] > 0, account)


def test_json():
    status, out, err = bench("-m", MODEL, "-t", "1,2", "-o", "json", "--account")
    rows = [json.loads(line) for line in out.splitlines()]
    check("status", status == 0, err)
    check("a row for each phase and thread count", [(r["threads"], r["phase"]) for r in rows] == [(t, p) for t in (1, 2) for p in PHASES], out)
    for row in rows:
        check_row(row)
        if row["phase"] in ("vision", "prefill_text", "prefill", "decode", "e2e"):
            check_account(row)
        else:
            check("no account", "account_ms" not in row, row)


def test_batches_share_steps():
    status, out, err = bench("-m", MODEL, "-t", "1", "-b", "1,3", "-o", "json", "--phases", "prefill,decode", "--account")
    rows = [json.loads(line) for line in out.splitlines()]
    phases = ["prefill_text", "prefill", "decode"]
    check("a row for each batch and phase", [(r["batch"], r["phase"]) for r in rows] == [(b, p) for b in (1, 3) for p in phases], err or out)
    for row in rows:
        check_row(row, row["batch"])
        check_account(row)
    if status == 0:
        ratio = rows[5]["bytes"] / rows[2]["bytes"]  # weights once a step, keys and values for each
        check("bytes of a step", 1 < ratio < 3, ratio)
        check("operations of a prompt", rows[3]["flops"] == 3 * rows[0]["flops"], rows)


def test_greedy_choices():
    status, out, err = bench("-m", MODEL, "-t", "1", "-o", "json", "--phases", "decode", "--greedy", "full,screened")
    rows = [json.loads(line) for line in out.splitlines()]
    check("a row for each choice", status == 0 and [r["greedy"] for r in rows] == ["full", "screened"], err or out)
    for row in rows:
        check_row(row, 1)
    screens = "tokens were found by a screen" in err and "nothing is screened" not in err
    check("fewer bytes", not screens or rows[1]["bytes"] < rows[0]["bytes"], rows)


def test_groups_of_int4():
    rows = {}
    for group in ("32", "64"):
        status, out, err = bench("-m", MODEL, "-w", "int4,bf16", "--int4-group", group, "-o", "json", "--phases", "decode")
        check(f"groups of {group}", status == 0, err)
        rows[group] = [json.loads(line) for line in out.splitlines()]
        check("rows tell", [r["int4_group"] for r in rows[group]] == [int(group), None], out)
    check("fewer bytes in larger groups", rows["64"][0]["bytes"] < rows["32"][0]["bytes"], rows)
    check("nothing else changes", rows["64"][1]["bytes"] == rows["32"][1]["bytes"], rows)


def test_csv_and_text():
    status, out, err = bench("-m", MODEL, "-t", "1", "-o", "csv", "--phases", "vision,decode", "--device", "ref")
    rows = list(csv.DictReader(io.StringIO(out)))
    check("csv", status == 0 and [r["phase"] for r in rows] == ["vision", "decode"] and FIELDS <= set(rows[0]), err or out)
    check("csv values", all(r["device"] == "ref" and float(r["median"]) > 0 and r["ceiling"] == "" for r in rows), out)
    status, out, err = bench("-m", f"{MODEL},{MODEL}", "-t", "1", "--phases", "comm")
    lines = [line for line in out.splitlines() if not line.startswith("#")]
    check("text", status == 0 and [line.split()[0] for line in lines] == ["comm", "comm_tile"] * 2, err or out)


def test_start_and_memory():
    status, out, err = bench("-m", MODEL, "-t", "1", "-o", "json", "--phases", "start,memory", "--load", "map")
    rows = {r["phase"]: r for r in map(json.loads, out.splitlines())}
    check("rows of a start", status == 0 and list(rows) == ["start", "memory"], err or out)
    if status == 0:
        check("start takes milliseconds", rows["start"]["unit"] == "ms" and 1 < rows["start"]["median"] < 300000, rows["start"])
        check("more memory than the plan, which has no code in it", rows["memory"]["median"] > rows["memory"]["ceiling"] > 1e-5, rows["memory"])


def test_exact_sums_beside_plain_ones():
    status, out, err = bench("-m", MODEL, "-t", "1", "-o", "json", "--phases", "sums")
    rows = [json.loads(line) for line in out.splitlines()]
    check("rows of sums", status == 0 and [r["phase"] for r in rows] == ["sums_prefill", "sums_decode"], err or out)
    for row in rows:
        check("both ways take time", row["median"] > 0 and row["ceiling"] > 0 and row["share_of_ceiling"] > 0 and row["n"] == 2, row)


def test_paced_rounds():
    status, out, err = bench("-m", MODEL, "-t", "1", "-b", "2", "-o", "json", "--phases", "vision,decode", "--paced", lines="0\n1\n0\n2\n1\n")
    rows = [json.loads(line) for line in out.splitlines()]
    want = [("probe", 0), ("vision", 1), ("decode", 1), ("probe", 0), ("vision", 2), ("decode", 2), ("vision", 1), ("decode", 1)]
    check("a round for each line", status == 0 and [(r["phase"], r["batch"]) for r in rows] == want, err or out)
    for row in rows:
        check("one round", row["n"] + row["discarded"] == 1 and row["median"] == row["min"] == row["max"], row)
        check("probes", row["device"] == "ref" or (row["read_gb_s"] > 0 and row["gflop_s"] > 0), row)
    for lines, word in (("1\n3\n", "'3'"), ("-1\n", "'-1'"), ("one\n", "'one'"), ("1", "'1'")):
        status, out, err = bench("-m", MODEL, "-t", "1", "-b", "2", "-o", "json", "--phases", "vision", "--paced", lines=lines)
        check("what is no batch is named", status == 64 and word in err and out.count("\n") == (lines == "1\n3\n"), (lines, status, err, out))


def test_errors_are_told_once():
    for args, status, words in ((["-m", "/nonexistent"], 78, "/nonexistent"), ([], 64, "bench needs --model"),
                                (["-m", MODEL, "--phases", "walk"], 64, "walk"), (["-m", MODEL, "-t", "1,2", "--paced"], 64, "--paced"), (["-m", MODEL, "-b", "1,300"], 64, "--batch: 300")):
        got, out, err = bench(*args)
        told = sum(words in line and " error " in line for line in err.splitlines())
        rows = [line for line in out.splitlines() if not line.startswith("#")]
        check(f"{args}", got == status and told == 1 and not rows, (got, told, err, out))


if __name__ == "__main__":
    sys.exit(main(tests_in(globals())))
