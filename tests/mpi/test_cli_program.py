#!/usr/bin/env python3
# RANKS: 1 3
# TIMEOUT: 600
"""The program as a user meets it: what goes to stdout, what to stderr, and the exit status.

Runs $LAUNCH $PALIGRID on the small checkpoint of tests/data; every expectation holds on any
number of ranks. What damaged input does is test_bad_input.py's subject.
"""
import json
import os
import shutil
import struct
import subprocess
import sys

from program_case import DATA, LAUNCH, MICRO as MODEL, RANKS, ROOT, TMP, check, main, program, tests_in

IMAGES = os.path.join(DATA, "images")
RGB, RGB2 = (os.path.join(IMAGES, n) for n in ("rgb.png", "rgb2.png"))
RUN = ["run", "-m", MODEL, "-n", "4"]


def launch(*args, stdout=subprocess.PIPE):
    return program(*args, launch=LAUNCH, stdout=stdout)


def rows(out):
    return [json.loads(line) for line in out.splitlines()]


def test_without_ranks():
    for args, words in ((["--help"], "Usage: paligrid COMMAND"), (["run", "--help"], "--max-new-tokens N"), (["--version"], "paligrid "),
                        (["info"], "sentencepiece"), (["info", MODEL], "vocabulary 1728"), (["run", "--beams", "3", "--print-config"], "beams = 3\n")):
        status, out, _ = launch(*args)
        check(f"{args}", status == 0 and out.count(words) == 1, (status, out))
    for args in (["--version", "--json"], ["info", "--json"], ["info", "--json", MODEL]):
        status, out, _ = launch(*args)
        check(f"{args}", status == 0 and len(rows(out)) == 1, (status, out))
    for name in sorted(os.listdir(os.path.join(ROOT, "configs"))):
        status, out, err = launch("run", "--config", os.path.join(ROOT, "configs", name), "--print-config")
        check(f"configs/{name}", status == 0 and "log-level = info\n" in out, err)
    plan = rows(launch("info", "--json", MODEL)[1])[0]["plan"]
    check("a plan for each rank count", [p["ranks"] for p in plan] == [1, 2, 3, 4], plan)


def test_errors_are_told_once():
    for args, status, words in (([], 64, "no command"), (["run"], 64, "run needs --model"), ([*RUN, RGB, "-p", "x", "--bems", "2"], 64, "did you mean --beams"),
                                (["run", "-m", "/nonexistent", "-p", "x", RGB], 78, "/nonexistent"), ([*RUN, "--list", "/nonexistent.tsv"], 65, "/nonexistent.tsv"),
                                (["info", "/nonexistent"], 78, "/nonexistent"),
                                (["dump", "-m", MODEL, "--cases", RGB, "--images", IMAGES, "-o", os.path.join(TMP, "x.h5")], 65, "rgb.png")):
        got, out, err = launch(*args)
        told = sum(words in line and " error " in line for line in err.splitlines())
        check(f"{args[-3:]}", got == status and told == 1 and not out, (got, told, err))


def test_answers():
    status, one, _ = launch(*RUN, "-p", "caption en", RGB)
    check("one answer is plain", status == 0 and one.endswith("\n") and "\t" not in one, (status, one))
    status, out, _ = launch(*RUN, "-p", "caption en", "-p", "tab\there\nand \\", RGB, RGB2)
    table = [line.split("\t") for line in out.splitlines()]
    check("several answers are a table", status == 0 and [len(r) for r in table] == [3] * 4, out)
    check("rows are in order", [r[0] for r in table] == [RGB, RGB, RGB2, RGB2], out)
    check("fields are escaped", table[1][1] == "tab\\there\\nand \\\\", out)
    check("the same answer in both forms", table[0][2].replace("\\\\", "\\") == one[:-1], (table[0], one))
    status, out, _ = launch(*RUN, "-p", "caption en", "--json", RGB)
    row = rows(out)[0]
    check("the same answer as JSON", status == 0 and row["text"] == one[:-1], out)
    check("JSON tells the run", row["ranks"] == RANKS and row["window"] == "none" and row["width"] > 0, out)
    check("JSON tells the device", row["device"].split("-")[0] in ("cpu", "ref") and row["threads"] >= 1, out)
    plain = rows(launch(*RUN, "-p", "caption en", "--json", "--device", "ref", RGB)[1])[0]
    check("the plain loops on request", plain["device"] == "ref" and plain["threads"] == 1 and abs(plain["logprob"] - row["logprob"]) < 0.1, plain)
    threads = [rows(launch(*RUN, "-p", "caption en", "--json", "-t", t, RGB)[1])[0] for t in ("1", "3")]
    check("threads change nothing", threads[0]["logprob"] == threads[1]["logprob"] == row["logprob"], threads)
    check("JSON has the tokens", len(row["tokens"]) <= 4 and row["finish"] in ("eos", "length") and row["logprob"] < 0, out)
    memory = row["memory"]
    check("memory adds up", memory["total"] >= memory["weights"] + memory["kv"] + memory["step"] > 0 and memory["peak_rss"] > memory["total"], memory)


def test_failed_records():
    missing = os.path.join(TMP, "missing.png")
    status, out, err = launch(*RUN, "--json", "-p", "caption en", "-p", "<image><image>", missing, RGB)
    got = rows(out)
    check("failed records: status 1", status == 1 and [r["status"] for r in got] == ["error", "error", "ok", "error"], out)
    check("the image's failure is told", got[0]["code"] == "ERR_INPUT" and missing in got[0]["error"], got[0])
    status, out, _ = launch(*RUN, "-p", "caption en", missing, RGB)
    check("plain rows leave failed records out", status == 1 and out.startswith(RGB + "\t") and out.count("\n") == 1, out)
    status, out, err = launch(*RUN, "-p", "x " * 9000, RGB)
    check("a prompt beyond the context", status == 1 and "context" in err and not out, err)
    with open("/dev/full", "w") as full:
        status, _, err = launch(*RUN, "-p", "caption en", RGB, stdout=full)
    if not LAUNCH:  # a launcher reads stdout itself
        check("an answer that cannot be written", status == 74 and "could not be written" in err, (status, err))


def test_lists_and_groups():
    path = os.path.join(TMP, "list.tsv")
    with open(path, "w") as f:
        f.write("rgb.png\tcaption en\nrgb2.png\tcaption en\nrgb2.png\tocr\n")
    status, out, _ = launch(*RUN, "--json", "--list", path, "--images", IMAGES)
    got = [(r["image"], r["prompt"], r["text"]) for r in rows(out)]
    check("a list", status == 0 and [g[:2] for g in got] == [("rgb.png", "caption en"), ("rgb2.png", "caption en"), ("rgb2.png", "ocr")], out)
    _, out, _ = launch(*RUN, "--json", "-p", "caption en", RGB, RGB2)
    check("a list gives the answers of arguments", [r["text"] for r in rows(out)] == [got[0][2], got[1][2]], out)
    status, out, _ = launch(*RUN, "--json", "--together", "-p", "what changed?", "-p", "<image>first <image>second", RGB, RGB2)
    check("images together", status == 0 and [r["images"] for r in rows(out)] == [[RGB, RGB2]] * 2, out)


def test_generation_options():
    def tokens(*extra):
        status, out, err = launch(*RUN, "--json", "-p", "caption en", RGB, *extra)
        check(f"{extra}", status == 0, err)
        return rows(out)[0]
    seeds = [tokens("--temperature", "2", "--seed", s)["tokens"] for s in ("1", "1", "2")]
    check("a seed repeats", seeds[0] == seeds[1] != seeds[2], seeds)
    check("ignore-eos goes on", len(tokens("--ignore-eos", "-n", "40")["tokens"]) == 40)
    beams = tokens("--beams", "3")
    check("beams have a score", beams["score"] <= 0 and beams["logprob"] >= tokens()["logprob"] - 1e-3, beams)
    screened = tokens("--greedy", "screened")
    check("a screen finds the same tokens and no log-probability", screened["tokens"] == tokens()["tokens"] and screened["logprob"] is None, screened)
    check("soft-caps can be set", tokens("--logit-softcap", "0", "--attn-softcap", "7")["attn_softcap"] == 7)
    config = os.path.join(TMP, "run.conf")
    with open(config, "w") as f:
        f.write(f'model = {MODEL}\nmax-new-tokens = 4\nprompt = "caption en"\njson = true\nlog-level = error\n')
    status, out, err = launch("run", "--config", config, RGB)
    check("a configuration file", status == 0 and rows(out)[0]["tokens"] == tokens()["tokens"] and not err, (out, err))


def test_ties_go_to_the_lower_id():
    """Every token has a twin in the other half of the vocabulary, on another rank where there are several: each choice is a tie."""
    model = os.path.join(TMP, "twins")
    shutil.copytree(MODEL, model)
    path = os.path.join(model, "model.safetensors")
    with open(path, "r+b") as f:
        n_head = struct.unpack("<Q", f.read(8))[0]
        entry = json.loads(f.read(n_head))["language_model.model.embed_tokens.weight"]
        begin, end = entry["data_offsets"]
        half = (end - begin) // 2
        f.seek(8 + n_head + begin)
        low = f.read(half)
        f.write(low)  # which follows at once
    n_vocab = entry["shape"][0]
    for image in (RGB, RGB2):
        got = []
        for greedy in ("full", "screened"):
            status, out, err = launch("run", "-m", model, "-n", "12", "--ignore-eos", "--json", "--greedy", greedy, "-p", "caption en", image)
            got.append(rows(out)[0]["tokens"] if check(f"--greedy {greedy}", status == 0, err) else [])
        check("both ways choose the same", got[0] == got[1], got)
        check("and the lower of two", len(got[0]) == 12 and max(got[0]) < n_vocab // 2, got)


def test_dump_and_force():
    cases, first, second = (os.path.join(TMP, n) for n in ("cases.json", "first.h5", "second.h5"))
    with open(cases, "w") as f:
        json.dump({"a": {"rows": [{"images": ["rgb.png"], "prompt": "caption en"}, {"images": ["gray.png"], "prompt": ""}], "steps": 3, "beam": 2}}, f)
    dump = ["dump", "-m", MODEL, "--cases", cases, "--images", IMAGES]
    status, out, err = launch(*dump, "-o", first)
    check("a dump", status == 0 and os.path.exists(first) and not os.path.exists(first + ".tmp") and not out, err)
    status, _, err = launch(*dump, "-o", second, "--force", first)
    with open(first, "rb") as a, open(second, "rb") as b:
        check("forcing its own tokens changes nothing", status == 0 and a.read() == b.read(), err)
    with open(cases, "w") as f:
        json.dump({"b": {"rows": [{"images": ["rgb.png"], "prompt": "x"}]}}, f)
    status, _, err = launch(*dump, "-o", os.path.join(TMP, "third.h5"), "--force", first)
    check("a case that the other file lacks", status == 65 and "/b/forced_tokens" in err and not os.path.exists(os.path.join(TMP, "third.h5")), (status, err))
    status, _, err = launch(*dump, "-o", "/nonexistent/x.h5")
    check("a folder that is not there", status == 74 and "/nonexistent/x.h5" in err, (status, err))


if __name__ == "__main__":
    sys.exit(main(tests_in(globals())))
