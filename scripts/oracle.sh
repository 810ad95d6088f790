#!/usr/bin/env bash
# The large comparison with transformers: every tiny configuration, every case, whole dumps.
#
#   scripts/oracle.sh [OUT]        default OUT: build/oracle
#
# Makes a Python environment (torch and transformers from PyPI), runs transformers on every tiny
# checkpoint in float32 and bfloat16, dumps the same cases on 1, 2 and 3 ranks and compares. From
# outside: ORACLE_PYTHON (an interpreter that has the packages), SEED, CONFIGS, RANKS, PALIGRID_BUILD.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/oracle}
seed=${SEED:-1}
configs=${CONFIGS:-micro gqa2 gqa4 caps mha tp hot}
ranks=${RANKS:-1 2 3}
program=${PALIGRID_BUILD:-build/release}/paligrid
mkdir -p "$out"
out=$(cd "$out" && pwd)

if [ -z "${ORACLE_PYTHON:-}" ]; then
    ORACLE_PYTHON=$out/venv/bin/python
    if [ ! -x "$ORACLE_PYTHON" ]; then
        python3 -m venv "$out/venv"
        "$ORACLE_PYTHON" -m pip -q install torch==2.13.0
        "$ORACLE_PYTHON" -m pip -q install transformers==5.23.0 tokenizers sentencepiece==0.2.3 \
            pillow==13.0.0 peft h5py numpy safetensors
    fi
fi
PATH=$(dirname "$ORACLE_PYTHON"):$PATH
export PATH OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

made=$out/made-$seed
if [ ! -e "$made/done" ]; then
    # shellcheck disable=SC2086  # a list of words
    sh scripts/oracle/run_all.sh "$made" "$seed" $configs
    touch "$made/done"
fi

passed=0 failed=0
verdict() { # verdict NAME COMMAND...: runs a comparison and counts it
    local name=$1
    shift
    if "$@" >"$out/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name: $(tail -n 1 "$out/log")"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        tail -n 20 "$out/log"
    fi
}

for c in $configs; do
    python tests/golden/cases_of.py "$made/$c.f32.h5" "$out/$c.cases.json"
    for n in $ranks; do
        for mode in f32 bf16; do
            options=(--window hf --force "$made/$c.f32.h5")
            [ "$mode" = f32 ] && options=(--window hf --embed-scale f32)
            launch/local.sh -n "$n" -- "$program" dump --model "$made/ckpt/$c" --cases "$out/$c.cases.json" \
                --images "$made/images" --out "$out/$c.$mode.np$n.h5" --log-level warn "${options[@]}"
        done
        verdict "$c f32 on $n rank(s)" python scripts/oracle/compare.py "$made/$c.f32.h5" "$out/$c.f32.np$n.h5" --quiet
        verdict "$c bf16 on $n rank(s)" python scripts/oracle/compare.py "$made/$c.f32.h5" "$out/$c.bf16.np$n.h5" \
            --quiet --noise "$made/$c.bf16.h5" --factor 1
    done
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
