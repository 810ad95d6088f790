"""A peer in a process of its own: its memory is free again when its turns are over, and when it fails, only its rows are missing.

A worker says {"name": ...} or {"missing": ...} when it is ready, then answers each line of JSON with a line of JSON.
"""
import json
import os
import subprocess
import sys

from . import child

HERE = os.path.dirname(os.path.abspath(__file__))


class Missing(Exception):
    """Why a peer cannot be measured here."""


class Worker:
    def __init__(self, script, *args, env=None):
        argv = [sys.executable, os.path.join(HERE, script), *map(str, args)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        try:
            ready = self.answer()
            if "missing" in ready:
                raise Missing(ready["missing"])
        except Missing:
            self.close()
            raise
        self.name = ready["name"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise Missing(f"its process ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, **question):
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() tells the status
        return self.answer()

    def close(self):
        child.end(self.process)
