"""What tests that start the program share: where things are, what failed, and packages from PyPI."""
import os
import shlex
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("PALIGRID_BUILD", os.path.join(ROOT, "build", "release"))
PALIGRID = os.environ.get("PALIGRID", os.path.join(BUILD, "paligrid"))
LAUNCH = shlex.split(os.environ.get("LAUNCH", ""))
MPIRUN = shlex.split(os.environ.get("MPIRUN", "mpirun --oversubscribe"))
LOCAL = os.path.join(ROOT, "launch", "local.sh")
RANKS = int(os.environ.get("RANKS", "1"))
TMP = os.environ.get("TEST_TMP", "/tmp")
DATA = os.path.join(ROOT, "tests", "data", "oracle")
MICRO = os.path.join(DATA, "ckpt_micro")
DEMO = os.path.join(ROOT, "demo", "model")
DEMO_IMAGES = os.path.join(ROOT, "demo", "images")
SKIP = 77
checks = []  # of each: did it hold?


def check(what, ok, seen=""):
    checks.append(bool(ok))
    if not ok:
        print(f"FAIL {what}: {str(seen)[-3000:]}", flush=True)
    return ok


def verdict():
    """The exit status; nothing checked is a failure, too."""
    print(f"{len(checks)} checks, {checks.count(False)} failed")
    return 0 if checks and all(checks) else 1


def skip(reason):
    """Ends the program: skipped, unless a check has failed."""
    print(reason)
    raise SystemExit(SKIP if all(checks) else 1)


def main(tests):
    for test in tests:
        start_s = time.monotonic()
        test()
        print(f"{test.__name__}: {time.monotonic() - start_s:.1f} s", flush=True)
    return verdict()


def tests_in(module):
    """Its functions named test_*, in the order of writing; module: globals()."""
    return [f for name, f in module.items() if name.startswith("test_")]


def on_ranks(n):
    """What stands before a program that is to run on n ranks of this machine."""
    return [LOCAL, "-n", str(n), "--"] if n > 1 else []


def program(*args, launch=(), **kw):
    """Exit status, stdout and stderr of the program."""
    if "input" not in kw:
        kw["stdin"] = subprocess.DEVNULL
    p = subprocess.run([*launch, PALIGRID, *args], **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120, **kw})
    return p.returncode, (p.stdout or b"").decode(), p.stderr.decode(errors="replace")


def python_with(package, module, *pip_options):
    """A python that can import `module`, after `package` was installed from PyPI where need be; None where it cannot be had."""
    venv = os.path.join(BUILD, "venv", package)
    python = os.path.join(venv, "bin", "python")
    probe = [python, "-c", f"import {module}"]
    if os.path.exists(python) and subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0:
        return python
    for command in ([sys.executable, "-m", "venv", "--system-site-packages", venv],
                    [python, "-m", "pip", "install", "--quiet", *pip_options, package], probe):
        try:
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300).returncode != 0:
                return None
        except (OSError, subprocess.TimeoutExpired):
            return None
    return python
