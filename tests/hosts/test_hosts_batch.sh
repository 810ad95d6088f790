#!/usr/bin/env bash
# RANKS: 1
# SLOW: deadlines have to pass
# TIMEOUT: 300
# WAITS
# A data set on three pretended hosts, and one of them is cut off in the middle: the job ends, names the host, and
# the same command goes on to the bytes of one undisturbed process. With one model over all hosts the
# cut is in a collective, with a replica on each host between coordinator and replica.
# Settings: PALIGRID (build/release/paligrid).
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/hosts/hosts.sh
. tests/hosts/hosts.sh
# shellcheck source=tests/hosts/hosts_case.sh
. tests/hosts/hosts_case.sh

DEADLINE=4 # of each wait; the job is to be gone 10 seconds later at the latest
export CORES=1 NUMA_NODES=1
case_begin "$(hosts_missing)" hosts_stop
make_input 4
reference
hosts_start "$tmp/hosts" h0 h1 h2

begin() { # NAME ARGS...
    local name=$1
    shift
    setpriv --pdeathsig TERM nsenter -t "$(hosts_pid head)" -n -u -m --wdns="$PWD" -- \
        launch/hosts.sh --hosts "h0,h1,h2" --agent "$(hosts_agent)" --bind none --lost-after 60 -- \
        paligrid batch --config configs/caption.conf "${batch[@]}" --output-path "$tmp/$name" \
        --comm-timeout "$DEADLINE" "$@" 2>"$tmp/$name.err" </dev/null &
    runner=$!
}
ended_within() { # SECONDS: leaves status
    status=0
    hosts_await "$1" hosts_gone "$runner" || return 1
    wait "$runner" || status=$?
    runner=""
}
slow() { # RATE|none
    local h
    for h in h0 h1 h2; do hosts_shape "$h" "$1"; done
}
interrupted() { # NAME PATTERN ARGS...
    local name=$1 pattern=$2
    shift 2
    slow 20mbit
    begin "$name" "$@"
    check "$name: under way" hosts_await 60 has_records "$tmp/$name"
    hosts_cut h1
    check "$name: a link is cut, the job ends" ended_within $((DEADLINE + 10))
    check "$name: with the status of a failed exchange" equal "$status" 70
    check "$name: the host is named" says "$pattern" "$tmp/$name.err"
    check "$name: nothing crashes" equal "$(grep -c 'Signal: ' "$tmp/$name.err")" 0
    hosts_mend h1
    slow none
    begin "$name" "$@"
    check "$name: the same command ends" ended_within 60
    check "$name: with success" equal "$status" 0
    check "$name: it went on" says "starts_before=1 done=[1-9]" "$tmp/$name.err"
    check "$name: the results are the same" same_results "$tmp/$name"
}
interrupted sharded "no sign of life from rank 1 on h1" --tp 3
# Replicas exchange next to nothing, so a slow link does not hold them up: there have to be many records.
make_input 80
reference
interrupted replicas "replica 1 .rank 1 on h1. has shown no life for 4.0 s" --tp 1
verdict
