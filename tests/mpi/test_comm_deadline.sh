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

# Name, what every waiting rank reports ("-": nothing), and a part of the message; by transport.
host='[^ ]+'
who="rank [0-9]+ of $RANKS on $host waited 1\.0 s for rank"
waited="number 1 \([0-9]+ bytes\): $who [0-9]+ on $host"
missing="" # with more than two, a roll call tells who is missing, whomever a rank waited for
((RANKS == 2)) || missing=" to [a-z]+; no sign of life from rank $last on $host: "
mpi_scenarios=(
    "sum|ERR_TIMEOUT|allreduce_sum number 1 \(320000 bytes\): $who $last on $host$missing"
    "short-sum|ERR_TIMEOUT|allreduce_sum $waited${missing:- to send}"
    "gather|ERR_TIMEOUT|allgather $waited${missing:- to send}"
    "bcast|ERR_TIMEOUT|bcast $waited${missing:- to send}"
    "agree|ERR_TIMEOUT|allreduce_max $waited"
    "split|ERR_TIMEOUT|split $waited"
    "destroy|-|end $waited"
    "part|ERR_TIMEOUT|allreduce_sum $waited"
    "second|ERR_TIMEOUT|allreduce_sum number 2 \(320000 bytes\): $who $last on"
    "two-steps|ERR_TIMEOUT|allreduce_sum number 4 \(320000 bytes\): $who $last on"
    "other-call|ERR_TIMEOUT|allreduce_[a-z]+ $waited${missing:+ to [a-z]+; all answer: rank [0-9] on $host waits for rank}"
    "other-length|ERR_COMM|bcast number 1: rank $last sent 4 bytes where 8 were expected"
)
# Here every rank knows who is missing, and where it was seen last.
waited="number 1 \([0-9]+ bytes\): $who $last on $host \(no call so far\)"
shm_scenarios=(
    "sum|ERR_TIMEOUT|allreduce_sum number 1 \(320000 bytes\): $who $last on $host \(no call so far\)"
    "short-sum|ERR_TIMEOUT|allreduce_sum $waited"
    "gather|ERR_TIMEOUT|allgather $waited"
    "bcast|ERR_TIMEOUT|bcast $waited"
    "agree|ERR_TIMEOUT|allreduce_max $waited"
    "split|ERR_TIMEOUT|split $waited"
    "destroy|-|end $waited"
    "part|ERR_TIMEOUT|allreduce_sum $waited"
    "second|ERR_TIMEOUT|allreduce_sum number 2 .* for rank $last on $host \(last call: allreduce_max number 1, 8 bytes\)"
    "two-steps|ERR_TIMEOUT|allreduce_sum number 4 .* for rank $last on $host \(last call: allreduce_sum number 3, 64000 bytes\)"
    "two-lengths|ERR_COMM|allreduce_sum number 3 \(64000 bytes\): rank $last on $host made allreduce_sum number 3 \(63992 bytes\)"
    "other-call|ERR_COMM|allreduce_sum number 1 \(16 bytes\): rank $last on $host made allreduce_max number 1 \(16 bytes\)"
    "other-root|ERR_COMM|bcast number 1: rank $last on $host has root 0 where $last was expected"
    "other-parts|ERR_COMM|allgatherv number 1: rank $last on $host has a part of length 8 where"
    "other-transport|ERR_MISMATCH|ranks differ in how they want to exchange"
    "other-length|ERR_COMM|bcast number 1 \(8 bytes\): rank $last on $host made bcast number 1 \(4 bytes\)"
)
# One rank a node: the leaders exchange over MPI and are named as nodes.
nodes_scenarios=(
    "sum|ERR_TIMEOUT|allreduce_sum number 1 \(320000 bytes\): node 0 of $RANKS on $host waited 1\.0 s for node $last on"
    "destroy|-|end number 1 \(0 bytes\): node [0-9]+ of $RANKS"
)

launch() { # NAME TRANSPORT: leaves TRANSPORT.NAME.out and .status in $tmp
    local status=0
    # shellcheck disable=SC2086 # LAUNCH is a command with options
    timeout -k 5 50 $LAUNCH "$PROGRAM" "$1" "$2" >"$tmp/$2.$1.out" 2>&1 </dev/null || status=$?
    echo "$status" >"$tmp/$2.$1.status"
}

verdict() { # TRANSPORT NAME REPORT PATTERN: prints what is wrong
    local at=$tmp/$1.$2 name=$2 report=$3 pattern=$4 r took status=70
    [[ $report != ERR_MISMATCH ]] || status=78
    [[ $(<"$at.status") = "$status" ]] || echo "exit status $(<"$at.status") instead of $status"
    grep -qE "$pattern" "$at.out" || echo "no message like: $pattern"
    [[ $report != - ]] || return 0
    for ((r = 0; r < last; r++)); do # each has to notice by itself
        took=$(sed -nE "s/^$name: rank $r: $report after ([0-9]+)\.([0-9]{3}) s.*/\1\2/p" "$at.out")
        if [[ -z $took ]]; then
            echo "rank $r did not report $report"
        elif ((10#$took > DEADLINE_MS + 2000)); then
            echo "rank $r took $took ms for a deadline of $DEADLINE_MS ms"
        fi
    done
}

tmp=$(mktemp -d "${TEST_TMP:-${TMPDIR:-/tmp}}/deadline.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

all=()
for s in "${mpi_scenarios[@]}"; do all+=("mpi|$s"); done
for s in "${shm_scenarios[@]}"; do all+=("shm|$s"); done
for s in "${nodes_scenarios[@]}"; do all+=("nodes|$s"); done

for s in "${all[@]}"; do
    while (($(jobs -rp | wc -l) >= AT_A_TIME)); do
        wait -n
    done
    IFS='|' read -r transport name _ <<<"$s"
    launch "$name" "$transport" &
done
wait

failures=0
for s in "${all[@]}"; do
    IFS='|' read -r transport name report pattern <<<"$s"
    wrong=$(verdict "$transport" "$name" "$report" "$pattern")
    if [[ -n $wrong ]]; then
        failures=$((failures + 1))
        printf 'FAILED: %s over %s: %s\n' "$name" "$transport" "$wrong"
        sed 's/^/   | /' "$tmp/$transport.$name.out"
    else
        echo "ok: $name over $transport"
    fi
done
echo "${#all[@]} scenarios, $failures failed"
[[ $failures = 0 ]]
