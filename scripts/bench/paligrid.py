"""paligrid as something that is measured in turns with others.

`paligrid bench --paced` keeps the model in memory and does a round for each line of its standard input, so that a round costs
what it measures and nothing else runs meanwhile: ranks that wait sleep.
"""
import json
import os
import subprocess

from . import child

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(ROOT, "build", "release", "paligrid")
TINY = os.path.join(ROOT, "tests", "data", "oracle", "ckpt_micro")
PASSES = ("vision", "prefill", "decode")


def argv_of(program, model, *options, ranks=1):
    """The command line of a bench; several ranks go through launch/local.sh, bound as a user's would be."""
    argv = [os.path.abspath(program), "bench", "--model", model, "-o", "json", "--log-level", "warn", *map(str, options)]
    return argv if ranks == 1 else [os.path.join(ROOT, "launch", "local.sh"), "-n", str(ranks), "--", *argv]


def rows_of(program, model, *options, ranks=1):
    """Rows of a bench that runs to its end: [{...}]. subprocess.CalledProcessError when it fails."""
    out = subprocess.run(argv_of(program, model, *options, ranks=ranks), check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


class Ended(Exception):
    """The program at the other end of a pipe has ended; its own words are on stderr."""


class Paced:
    """A model that waits for its turn; use it in a with statement.

    max_batch: largest batch of a round. phases: of PASSES. options: more of bench's.
    """

    def __init__(self, program, model, *options, weights="auto", threads=0, ranks=1, max_batch=1, phases=PASSES):
        self.last = phases[-1]
        self.name = f"{model} {weights} on {ranks} rank(s)"
        options = ["--paced", "--weights", weights, "--threads", threads, "--batch", max_batch, "--phases", ",".join(phases),
                   "--comm-timeout", 7200, *options]
        self.process = subprocess.Popen(argv_of(program, model, *options, ranks=ranks), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        child.end(self.process)

    def turn(self, batch, last):
        try:
            self.process.stdin.write(f"{batch}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words are still to be read
        rows = {}
        while last not in rows:
            line = self.process.stdout.readline()
            if not line:
                raise Ended(f"paligrid bench of {self.name} ended with status {self.process.wait()}")
            row = json.loads(line)
            rows[row["phase"]] = row
        return rows

    def round(self, batch=1):
        """{phase: row} of one round."""
        return self.turn(batch, self.last)

    def probe(self):
        """What the machine can do now: a row with read_gb_s and gflop_s."""
        return self.turn(0, "probe")["probe"]

    def resident_bytes(self):
        """Memory of all its ranks, pages that they share counted once; None where the kernel does not tell."""
        total = 0
        for pid in descendants(self.process.pid):
            try:
                with open(f"/proc/{pid}/smaps_rollup") as f:
                    total += sum(1024 * int(line.split()[1]) for line in f if line.startswith("Pss:"))
            except (OSError, ValueError):
                return None
        return total


class Apart:
    """paligrid that is in memory in its own turns only, for models of which two do not fit; use it in a with statement.

    paced() starts it, loads its weights and is a Paced; a tiny model's process makes the probes. A turn warms up by itself.
    """

    def __init__(self, paced, program, threads):
        self.paced, self.program, self.threads = paced, program, threads

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def round(self, batch=1):
        with self.paced() as p:
            p.round(batch)
            return p.round(batch)

    def probe(self):
        with Paced(self.program, TINY, threads=self.threads) as p:
            return p.probe()


def descendants(pid):
    """pid and the processes below it that run paligrid, or pid alone."""
    found, todo = [], [pid]
    while todo:
        p = todo.pop()
        try:
            with open(f"/proc/{p}/comm") as f:
                name = f.read().strip()
            for task in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{task}/children") as f:
                    todo += map(int, f.read().split())
        except OSError:
            continue
        if name == "paligrid":
            found.append(p)
    return found or [pid]
