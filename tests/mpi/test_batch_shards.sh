#!/usr/bin/env bash
# RANKS: 1 2
# SLOW: jobs one after the other
# Several jobs on one data set (--shards): one is killed, two share what is left, and the results are to the
# byte those of one job without shards. What does not fit together is refused.
# Settings: PALIGRID (build/release/paligrid), LAUNCH.
set -euo pipefail
cd "$(dirname "$0")/../.."

PALIGRID=${PALIGRID:-build/release/paligrid}
tmp=$(mktemp -d "${TEST_TMP:-${TMPDIR:-/tmp}}/shards.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
failures=0
check() { # WHAT EXPECTED GOT
    if [[ $2 != "$3" ]]; then
        printf 'FAILED: %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
        failures=$((failures + 1))
    fi
}
mkdir "$tmp/in"
for copy in 1 2 3 4 5 6; do
    for image in tests/data/oracle/images/*.png; do
        ln -s "$PWD/$image" "$tmp/in/$copy-${image##*/}"
    done
done
batch() { # NAME ARGS...: leaves NAME.err; the launcher is the test's
    local name=$1
    shift
    # shellcheck disable=SC2086 # LAUNCH is a command with options
    ${LAUNCH:-} "$PALIGRID" batch --model tests/data/oracle/ckpt_micro --input "$tmp/in" --prompt "caption en" \
        -n 4 --threads 1 "$@" 2>"$tmp/$name.err"
}
status=0
batch one --output-path "$tmp/one" || status=$?
check "one job" 0 "$status"

status=0
PALIGRID_FAULT=after_sync:1 batch killed --output-path "$tmp/out" --shards 5 --sync 0 || status=$?
[[ $status != 0 ]] || check "a job is killed" "another status" 0
status=0
batch plain --output-path "$tmp/out" || status=$?
check "a job without shards would do it all again" "78 1" "$status $(grep -c 'use --shards 5' "$tmp/plain.err")"
status=0
batch other --output-path "$tmp/out" --shards 4 || status=$?
check "another number of shards" "78 1" "$status $(grep -c 'in 5 shards, not 4' "$tmp/other.err")"
status=0
batch retry --output-path "$tmp/out" --shards 5 --retry-errors all || status=$?
check "retrying comes later" 64 "$status"

pids=()
for i in 0 1; do
    SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=2 batch "job$i" --output-path "$tmp/out" --shards 5 &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    status=0
    wait "$pid" || status=$?
    check "jobs that share" 0 "$status"
done
check "each shard is worked on once, but for the killed one" 6 "$(cat "$tmp"/out/journal/*.jsonl | grep -c '"settings"')"
check "one job packs" 1 "$(cat "$tmp"/job?.err | grep -c 'done and packed: ')"
cmp "$tmp/one/results.jsonl" "$tmp/out/results.jsonl" || check "results" "the same bytes" "others"
[[ -e $tmp/out/_SUCCESS ]] || check "_SUCCESS" "a file" "none"
status=0
batch late --output-path "$tmp/out" --shards 5 || status=$?
check "a late job finds nothing to do" "0 1" "$status $(grep -c 'packed already' "$tmp/late.err")"
status=0
batch after --output-path "$tmp/out" || status=$?
check "then it is an output directory like any other" "0 1" "$status $(grep -c 'complete: answered=0 ' "$tmp/after.err")"

((failures == 0)) || tail -n 5 "$tmp"/*.err
((failures == 0)) && echo "all as expected"
