"""Starting `paligrid batch` in tests: the program, the bundled model, its images, and what is left on disk."""
import json
import os
import shutil
import subprocess
import time

from program_case import DEMO as MODEL, DEMO_IMAGES as IMAGES, MPIRUN, PALIGRID, TMP


def command(ranks, *args, threads=1):
    launch = [*MPIRUN, "-np", str(ranks)] if ranks > 1 else []
    return [*launch, PALIGRID, *map(str, args), *(["--threads", str(threads)] if args[0] != "export" else [])]


def start(ranks, *args, env=None):
    return subprocess.Popen(command(ranks, *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                            env={**os.environ, **(env or {})}, start_new_session=True)


def finish(p, timeout=120):
    """Exit status and stderr."""
    try:
        _, err = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        p.kill()
        _, err = p.communicate()
        return -1, err.decode(errors="replace") + "\nTIMED OUT"
    return p.returncode, err.decode(errors="replace")


def batch(ranks, source, out, *args, env=None, prompt="caption en"):
    words = ["batch", "--model", MODEL, "--input", source, "-o", out]
    if prompt:
        words += ["--prompt", prompt]
    words += args
    return finish(start(ranks, *words, env=env))


def reference(*args, prompts=("caption en",)):
    """What `run` answers: texts in the order image, prompt."""
    words = ["run", "--model", MODEL, *args]
    for p in prompts:
        words += ["--prompt", p]
    pictures = [os.path.join(IMAGES, n) for n in sorted(os.listdir(IMAGES))]
    p = subprocess.run(command(1, *words, *pictures), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120)
    return [line.split("\t")[2] for line in p.stdout.decode().splitlines()]


def fresh(name):
    path = os.path.join(TMP, name)
    shutil.rmtree(path, ignore_errors=True)
    return path


def read(path, name="results.jsonl"):
    with open(os.path.join(path, name), "rb") as f:
        return f.read()


def rows(path, name="results.jsonl"):
    return [json.loads(line) for line in read(path, name).splitlines()]


def journal_lines(path):
    """The journal's records, in the order of writing."""
    lines = []
    folder = os.path.join(path, "journal")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as f:
            lines += [json.loads(line) for line in f.read().splitlines() if b'"index"' in line]
    return lines


def picture_set(name, n, extra=()):
    """A folder of n pictures: links to the demo's; and `extra`: (name, maker(path)) after every fifth."""
    folder = fresh(name)
    os.makedirs(folder)
    demo = sorted(os.listdir(IMAGES))
    extra = list(extra)
    for i in range(n):
        picture = demo[i % len(demo)]
        os.symlink(os.path.join(IMAGES, picture), os.path.join(folder, f"{i:05d}_{picture}"))
        if extra and i % 5 == 4:
            bad, make = extra.pop(0)
            make(os.path.join(folder, f"{i:05d}~{bad}"))
    for bad, make in extra:
        make(os.path.join(folder, f"{n:05d}~{bad}"))
    return folder


def wait_for(what, seconds=30):
    """True when what() becomes true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.02)
    return False
