#!/usr/bin/env bash
# RANKS: 2 3
# TIMEOUT: 120
# A rank that does not come: the others say so within the deadline and 2 seconds, naming call, peer
# and host, and the job ends with their status. The scenarios are in test_comm_deadline.c; a few run
# at a time, as they mostly sleep.
# Settings: PALIGRID_BUILD (build/release), RANKS (2), LAUNCH (launch/local.sh), AT_A_TIME (3).
set -euo pipefail
cd "$(dirname "$0")/../.."

PALIGRID_BUILD=${PALIGRID_BUILD:-build/release}
RANKS=${RANKS:-2}
LAUNCH=${LAUNCH:-launch/local.sh -n $RANKS --}
AT_A_TIME=${AT_A_TIME:-3}
PROGRAM=$PALIGRID_BUILD/tests/mpi/test_comm_deadline
DEADLINE_MS=1000 # as in the program
last=$((RANKS - 1))

waited="number 1 \([0-9]+ bytes\): rank [0-9]+ of $RANKS on [^ ]+ waited 1\.0 s for rank [0-9]+ on"
# Name, what every waiting rank reports ("-": nothing), and a part of the message.
scenarios=(
    "sum|ERR_TIMEOUT|allreduce_sum number 1 \(320000 bytes\): .* waited 1\.0 s for rank $last on"
    "short-sum|ERR_TIMEOUT|allreduce_sum $waited [^ ]+ to send"
    "gather|ERR_TIMEOUT|allgather $waited [^ ]+ to send"
    "bcast|ERR_TIMEOUT|bcast $waited [^ ]+ to send"
    "agree|ERR_TIMEOUT|allreduce_max $waited"
    "split|ERR_TIMEOUT|split $waited"
    "destroy|-|end $waited"
    "part|ERR_TIMEOUT|allreduce_sum $waited"
    "other-call|ERR_TIMEOUT|allreduce_sum $waited"
    "other-length|ERR_COMM|bcast number 1: rank $last sent 4 bytes where 8 were expected"
)

launch() { # NAME: leaves NAME.out and NAME.status in $tmp
    local status=0
    # shellcheck disable=SC2086 # LAUNCH is a command with options
    timeout -k 5 50 $LAUNCH "$PROGRAM" "$1" >"$tmp/$1.out" 2>&1 </dev/null || status=$?
    echo "$status" >"$tmp/$1.status"
}

verdict() { # NAME REPORT PATTERN: prints what is wrong
    local name=$1 report=$2 pattern=$3 r took
    [[ $(<"$tmp/$name.status") = 70 ]] || echo "exit status $(<"$tmp/$name.status") instead of 70"
    grep -qE "$pattern" "$tmp/$name.out" || echo "no message like: $pattern"
    [[ $report != - ]] || return 0
    for ((r = 0; r < last; r++)); do # each has to notice by itself
        took=$(sed -nE "s/^$name: rank $r: $report after ([0-9]+)\.([0-9]{3}) s.*/\1\2/p" "$tmp/$name.out")
        if [[ -z $took ]]; then
            echo "rank $r did not report $report"
        elif ((10#$took > DEADLINE_MS + 2000)); then
            echo "rank $r took $took ms for a deadline of $DEADLINE_MS ms"
        fi
    done
}

tmp=$(mktemp -d "${TEST_TMP:-${TMPDIR:-/tmp}}/deadline.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

for s in "${scenarios[@]}"; do
    while (($(jobs -rp | wc -l) >= AT_A_TIME)); do
        wait -n
    done
    launch "${s%%|*}" &
done
wait

failures=0
for s in "${scenarios[@]}"; do
    IFS='|' read -r name report pattern <<<"$s"
    wrong=$(verdict "$name" "$report" "$pattern")
    if [[ -n $wrong ]]; then
        failures=$((failures + 1))
        printf 'FAILED: %s: %s\n' "$name" "$wrong"
        sed 's/^/   | /' "$tmp/$name.out"
    else
        echo "ok: $name"
    fi
done
echo "${#scenarios[@]} scenarios, $failures failed"
[[ $failures = 0 ]]
