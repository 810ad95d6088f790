#!/usr/bin/env bash
# The whole table of what paligrid means to reach on this machine, measured now, each row with its target:
#   scripts/targets.sh [--budget MINUTES] [--only LIST] [--peers [--llama FOLDER] [--compiled]] [-o text|json|csv]
# Run it on a machine that does nothing else; --help tells the options. Real 3B dimensions need 13 GB of
# memory, the row of 28B needs 19.5; --scratch (else a temporary folder) gets a checkpoint of 6 GB.
# Exit status: 0 nothing missed, 1 something was missed or failed; the last line counts what was not measured.
# Variables: PYTHON (python3; with numpy, for the warm start), PEER_PYTHON (the one with torch, transformers and gguf; default PYTHON).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

PYTHON=${PYTHON:-python3}
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
exec "$PYTHON" -m bench.targets --python "${PEER_PYTHON:-$PYTHON}" "$@"
