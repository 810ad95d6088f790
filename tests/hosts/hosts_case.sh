# shellcheck shell=bash
# What tests on pretended hosts share; sourced after hosts.sh (or tests/slurm/box.sh), from the test's
# own shell. Skips the test with the reason in $1, if any; $2 stops what the test started.
#
# A process that `runner` names is ended at the end, too. Leaves: tmp (removed then), PALIGRID, and
#   check WHAT COMMAND...   says whether it succeeded, and counts failures
#   equal A B, says PATTERN FILE, has_records DIR, same_results DIR    for check
#   make_input COPIES       $tmp/in: that many copies of the demo's pictures; batch: its options
#   reference               $tmp/one: what one undisturbed process makes of it
#   verdict                 the test's end
case_begin() { # REASON STOP
    [[ -z $1 ]] || {
        echo "$1"
        exit 77
    }
    PALIGRID=$(readlink -f "${PALIGRID:-build/release/paligrid}")
    export PALIGRID OMPI_MCA_mpi_yield_when_idle=1 # the hosts share this machine's cores
    tmp=$(mktemp -d "${TEST_TMP:-${TMPDIR:-/tmp}}/hosts.XXXXXX")
    runner="" failures=0 began=$SECONDS stop=$2
    trap case_end EXIT
}

case_end() {
    [[ -z $runner ]] || kill -KILL "$runner" 2>/dev/null || true
    "$stop"
    rm -rf "$tmp"
}

check() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@"; then
        echo "ok ($((SECONDS - began)) s): $what"
    else
        echo "FAILED ($((SECONDS - began)) s): $what ($*)"
        failures=$((failures + 1))
    fi
}

equal() {
    [[ $1 = "$2" ]]
}

says() { # PATTERN FILE
    grep -qE "$1" "$2" || { sed 's/^/   | /' "$2" && false; }
}

make_input() { # COPIES
    local copy image
    rm -rf "$tmp/in"
    mkdir "$tmp/in"
    for ((copy = 1; copy <= $1; copy++)); do
        for image in demo/images/*; do
            ln -s "$PWD/$image" "$tmp/in/$copy-${image##*/}"
        done
    done
    batch=(--model demo/model --input "$tmp/in" --threads 1 --sync 0.2)
}

reference() {
    rm -rf "$tmp/one"
    "$PALIGRID" batch --config configs/caption.conf "${batch[@]}" --output-path "$tmp/one" 2>"$tmp/one.err" ||
        hosts_fail "no undisturbed results: $(<"$tmp/one.err")"
}

has_records() { # DIR: some are done
    cat "$1"/journal/*.jsonl 2>/dev/null | grep -q '"index"'
}

same_results() { # DIR: complete, and to the byte as undisturbed
    [[ -e $1/_SUCCESS ]] && cmp "$tmp/one/results.jsonl" "$1/results.jsonl"
}

verdict() {
    ((failures == 0)) && echo "all as expected"
}
