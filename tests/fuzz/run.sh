#!/usr/bin/env bash
# Runs fuzz targets: run.sh BUILD_DIR TARGET... Called by make fuzz.
#
# Seeds are the files of tests/fuzz/seeds/<what>/ and <what>-*/ where they exist; what the fuzzer
# finds on its way is kept in BUILD_DIR/corpus/<what>/ and used again. A finding stops that target
# and is written to BUILD_DIR/findings/. Ends with `N passed, N failed, N skipped`.
set -euo pipefail
cd "$(dirname "$0")/../.."

build_dir=$1
shift
seconds=${FUZZ_SECONDS:-60}
passed=0 failed=0
mkdir -p "$build_dir/findings"
for target in "$@"; do
    what=${target##*/fuzz_}
    corpus=("$build_dir/corpus/$what")
    mkdir -p "${corpus[0]}"
    for seeds in "tests/fuzz/seeds/$what" "tests/fuzz/seeds/$what"-*; do
        if [[ -d $seeds ]]; then
            corpus+=("$seeds")
        fi
    done
    log=$build_dir/findings/$what.log
    printf '%s for %s s ... ' "$target" "$seconds"
    if "$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$build_dir/findings/$what-" "${corpus[@]}" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
    else
        failed=$((failed + 1))
        echo FAILED
        tail -n 40 "$log" | sed 's/^/    | /'
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[[ $failed = 0 ]]
