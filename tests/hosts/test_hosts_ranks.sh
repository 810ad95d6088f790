#!/usr/bin/env bash
# RANKS: 1
# SLOW: between hosts every answer takes its time, and deadlines have to pass
# TIMEOUT: 300
# WAITS
# One model sharded over three pretended hosts: the same answers to the bit as on one rank, over a slow
# network, too. A host that is cut off in the middle and a rank that is stopped are named, and the job ends.
# Settings: PALIGRID (build/release/paligrid).
# shellcheck disable=SC2016 # a line for another shell
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/hosts/hosts.sh
. tests/hosts/hosts.sh

# shellcheck source=tests/hosts/hosts_case.sh
. tests/hosts/hosts_case.sh

DEADLINE=4 # of each wait; the job is to be gone 10 seconds later at the latest
export CORES=1 NUMA_NODES=1
case_begin "$(hosts_missing)" hosts_stop

hosts_start "$tmp/hosts" h0 h1 h2
launcher=(launch/hosts.sh --hosts "h0,h1,h2" --agent "$(hosts_agent)" --bind none)
sed 's|^|demo/images/|' demo/prompts.tsv >"$tmp/all.tsv"
sed -n '1p;9p;20p;30p' "$tmp/all.tsv" >"$tmp/some.tsv"
for _ in {1..40}; do cat "$tmp/all.tsv"; done >"$tmp/long.tsv"
ask=(paligrid run --model demo/model --images . --threads 1 --json)

# Keys up to "window" are those that may not depend on ranks (src/cli/answers.c).
answers() { sed 's/,"window":.*//' "$1"; }

# ---- where ranks are ----
placed=$(hosts_on head "${launcher[@]}" --per-host 2 --gpus 2 --interface "$HOSTS_NET.0/24" -- \
    sh -c 'echo "$(hostname) $OMPI_COMM_WORLD_RANK $CUDA_VISIBLE_DEVICES"' 2>"$tmp/placed.err" | sort)
check "ranks fill host by host, a GPU each" equal "$placed" $'h0 0 0\nh0 1 1\nh1 2 0\nh1 3 1\nh2 4 0\nh2 5 1'

# ---- the same bits ----
"$PALIGRID" "${ask[@]:1}" --list "$tmp/some.tsv" >"$tmp/one" 2>"$tmp/one.err"
for rate in none 50mbit; do
    for h in h0 h1 h2; do hosts_shape "$h" "$rate"; done
    for per_host in 1 2; do
        hosts_on head "${launcher[@]}" --per-host "$per_host" -- "${ask[@]}" --list "$tmp/some.tsv" \
            >"$tmp/three" 2>"$tmp/three.err" || sed 's/^/   | /' "$tmp/three.err"
        check "3 hosts, $per_host rank(s) each, rate $rate: as on one rank" \
            equal "$(answers "$tmp/one")" "$(answers "$tmp/three")"
        check "that many ranks took part" says "ranks=$((3 * per_host)) " "$tmp/three.err"
    done
done
for h in h0 h1 h2; do hosts_shape "$h" none; done

# ---- failures ----
start() { # PER_HOST LOST_AFTER COMM_TIMEOUT
    : >"$tmp/out"
    setpriv --pdeathsig TERM nsenter -t "$(hosts_pid head)" -n -u -m --wdns="$PWD" -- \
        "${launcher[@]}" --per-host "$1" --lost-after "$2" -- "${ask[@]}" --list "$tmp/long.tsv" \
        --comm-timeout "$3" >"$tmp/out" 2>"$tmp/err" </dev/null &
    runner=$!
}
answers_or_ends() { [[ -s $tmp/out ]] || ! kill -0 "$runner" 2>/dev/null; }
# Open MPI's own connections sometimes fail while ranks start, before anything of ours is tested: a run
# that ended so is started again.
begin() { # the same: a long run, in the middle
    for attempt in 1 2 3; do
        start "$@"
        hosts_await 60 answers_or_ends || break
        if [[ -s $tmp/out ]]; then
            sleep 0.5
            return 0
        fi
        grep -q "failed to TCP connect" "$tmp/err" || break
        echo "hosts: start $attempt: Open MPI failed to connect"
    done
    hosts_fail "nothing is answered: $(<"$tmp/err")"
}
ended_within() { # SECONDS: leaves status
    status=0
    hosts_await "$1" hosts_gone "$runner" || return 1
    wait "$runner" || status=$?
    runner=""
}
gone_from() { # HOST...
    local h
    for h in "$@"; do
        hosts_await 5 equal "" "$(hosts_pids "$h" paligrid)" || return 1
    done
}
stop_rank() { # HOST: the rank, not its helper processes
    kill -STOP "$(hosts_pids "$1" paligrid | head -n 1)"
}
alone="no sign of life from (rank|node) 1 on h1: stopped, busy elsewhere, or its host cannot be reached"

begin 1 60 "$DEADLINE"
hosts_cut h1
check "a link is cut in the middle: the job ends" ended_within $((DEADLINE + 10))
check "with the status of a failed exchange" equal "$status" 70
check "the host is named" says "$alone" "$tmp/err"
check "nothing is left on the others" gone_from h0 h2
hosts_mend h1
check "nor on the one that was cut off" gone_from h1

begin 2 60 "$DEADLINE"
hosts_cut h1
check "the same with two ranks a host" ended_within $((DEADLINE + 10))
check "the host is named" says "$alone" "$tmp/err"
hosts_mend h1
check "nothing is left" gone_from h0 h1 h2

begin 1 4 120
hosts_cut h1
check "mpirun's connection is watched: the job ends long before its deadline" ended_within 20
check "with an error" test "$status" -ne 0
check "the host is named" says "Remote daemon: .* on node h1" "$tmp/err"
hosts_mend h1
check "nothing is left" gone_from h0 h1 h2

begin 1 60 "$DEADLINE"
stop_rank h2
check "a rank is stopped: the job ends" ended_within $((DEADLINE + 10))
check "the rank and its host are named" says "no sign of life from rank 2 on h2" "$tmp/err"
check "nothing is left" gone_from h0 h1 h2

verdict
