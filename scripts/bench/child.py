"""A process that answers lines on its standard input, and leaves when that is closed."""
import contextlib
import subprocess


def end(process, seconds=60):
    """Closes its input and waits; it is killed when it has not left by then."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
