# shellcheck shell=bash
# What the tests of launch/ share; sourced. SCRIPT names the script under test. Commands that it would
# start are pretended: scripts of those names, first in PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tmp=$(mktemp -d "${TEST_TMP:-${TMPDIR:-/tmp}}/launch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
unset RANKS MPIRUN MPIRUN_ARGS BIND PALIGRID LD_LIBRARY_PATH "${!OMPI_@}" "${!PRTE_@}" "${!SLURM_@}"
export PATH="$tmp:$PATH"

pretend() { # COMMAND OUTPUT
    printf '#!/bin/sh\necho "%s"\n' "$2" >"$tmp/$1"
    chmod +x "$tmp/$1"
}
failures=0
same() { # WHAT EXPECTED GOT
    if [[ $2 != "$3" ]]; then
        printf 'FAILED: %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
        failures=$((failures + 1))
    fi
}
holds() { # WHAT PART WHOLE
    [[ $3 = *"$2"* ]] || same "$1" "... $2 ..." "$3"
}
line() { # ARGS...: the dry run, without the blank at its end
    local out
    out=$("$SCRIPT" --dry-run "$@")
    echo "${out% }"
}
refused() { # PATTERN ARGS...
    local pattern=$1 out status=0
    shift
    out=$("$SCRIPT" "$@" 2>&1) || status=$?
    same "status of: $*" 64 "$status"
    holds "message of: $*" "$pattern" "$out"
}
finish() {
    [[ $failures = 0 ]] && echo "all command lines as expected"
}
