#!/usr/bin/env bash
# RANKS: 1
# launch/local.sh: the command lines it makes (--dry-run, with a pretended mpirun and core count),
# what it starts, and what it refuses.
set -euo pipefail
cd "$(dirname "$0")/../.."

tmp=$(mktemp -d "${TEST_TMP:-${TMPDIR:-/tmp}}/local.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
unset RANKS MPIRUN MPIRUN_ARGS BIND "${!OMPI_@}" "${!PRTE_@}"
export CORES=4 PATH="$tmp:$PATH"

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
line() { # ARGS...: the dry run, without the blank at its end
    local out
    out=$(launch/local.sh --dry-run "$@")
    echo "${out% }"
}
refused() { # PATTERN ARGS...
    local pattern=$1 out status=0
    shift
    out=$(launch/local.sh "$@" 2>&1) || status=$?
    same "status of: $*" 64 "$status"
    [[ $out = *"$pattern"* ]] || same "message of: $*" "$pattern" "$out"
}

pretend mpirun "mpirun (Open MPI) 4.1.4"
pretend id 1000
same "one rank needs no mpirun" "prog 'a b'" "$(line -n 1 -- prog 'a b' | sed "s/a\\\\ b/'a b'/")"
same "a core each" "mpirun --bind-to core -n 4 prog -n 7" "$(line -n 4 -- prog -n 7)"
same "the number of cores is the default" "mpirun --bind-to core -n 4 prog" "$(line -- prog)"
same "more ranks than cores" \
    "env OMPI_MCA_mpi_yield_when_idle=1 mpirun --oversubscribe --bind-to none -n 5 prog" \
    "$(line -n 5 -- prog)"
same "the user's choices stay" "mpirun -q --oversubscribe --bind-to socket --tag-output -n 5 prog" \
    "$(OMPI_MCA_mpi_yield_when_idle=0 BIND=socket MPIRUN="mpirun -q" MPIRUN_ARGS=--tag-output RANKS=5 line -- prog)"
same "a forced mpirun" "mpirun --bind-to core -n 1 prog" "$(MPIRUN=mpirun line -n 1 -- prog)"
same "the program of this checkout" "mpirun --bind-to core -n 2 /some/paligrid info" \
    "$(PALIGRID=/some/paligrid line -n 2 -- paligrid info)"
pretend id 0
[[ $(line -n 2 -- prog) = "env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "*" -n 2 prog" ]] ||
    same "root" "env OMPI_ALLOW_RUN_AS_ROOT=1 ..." "$(line -n 2 -- prog)"
pretend mpirun "HYDRA build details: Version: 4.0.2"
same "another MPI gets the number only" "mpirun -n 5 prog" "$(line -n 5 -- prog)"

same "it starts the program, arguments intact" "<a b><>" \
    "$(launch/local.sh -n 1 -- printf '<%s>' 'a b' '')"
status=0
launch/local.sh -n 1 -- sh -c 'exit 65' || status=$?
same "the program's exit status is passed on" 65 "$status"

refused "-n 0 is not a number of ranks" -n 0 -- prog
refused "-n x is not a number of ranks" -n x -- prog
refused "no program given" -n 2
refused "unknown option --ranks" --ranks 2 -- prog
MPIRUN=no-such-mpirun refused "no-such-mpirun not found" -n 2 -- prog
[[ $(launch/local.sh --help) = *"Usage: launch/local.sh"* ]] || same "--help" "a usage line" "none"

[[ $failures = 0 ]] && echo "all command lines as expected"
