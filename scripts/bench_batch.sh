#!/usr/bin/env bash
# How fast batch is for each way to group ranks:
#   scripts/bench_batch.sh [--model DIR] [--input SRC] [--records N] [--batch B] [--repeat K] [RxT...]
#
# One row for each R x T (default 1x1 2x1 1x2): replicas, ranks of each, records and tokens a second of
# the run without its start, and the share of the compute time that was spent waiting for input. Of K
# runs (3) the median by rate is shown, with the spread of all. Every group of ranks gets its share of the
# CPUs. Without --input the bundled pictures are linked N times (500) into a folder; a synthetic model
# answers them, too.
# Variables: PALIGRID (the program), MPIRUN (with options, without -np), PROMPT, NEW_TOKENS, THREADS (of
# each rank; 0: its share).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

model=$here/demo/model input="" records=500 batch=8 repeat=3 shapes=()
while (($# > 0)); do
    case $1 in
    --model | --input | --records | --batch | --repeat)
        (($# > 1)) || { echo "$1 needs a value" >&2; exit 64; }
        printf -v "${1#--}" '%s' "$2"
        shift
        ;;
    [1-9]*x[1-9]*) shapes+=("$1") ;;
    *)
        sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
        [[ $1 = --help ]] && exit 0 || exit 64
        ;;
    esac
    shift
done
((${#shapes[@]} > 0)) || shapes=(1x1 2x1 1x2)

PALIGRID=${PALIGRID:-$here/build/release/paligrid}
PYTHON=${PYTHON:-python3}
read -r -a mpirun <<<"${MPIRUN:-mpirun --oversubscribe --bind-to none}"
if [[ $(id -u) = 0 ]]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/paligrid-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
if [[ -z $input ]]; then
    input=$work/pictures
    mkdir "$input"
    mapfile -t demo < <(find "$here/demo/images" -maxdepth 1 -type f | sort)
    for ((i = 0; i < records; i++)); do
        picture=${demo[i % ${#demo[@]}]}
        ln -s "$picture" "$input/$(printf %06d "$i")_${picture##*/}"
    done
fi

run_once() { # R T OUT
    local n=$(($1 * $2)) launch=()
    ((n == 1)) || launch=("${mpirun[@]}" -np "$n")
    "${launch[@]}" "$PALIGRID" batch --model "$model" --input "$input" --limit "$records" \
        --prompt "${PROMPT:-caption en}" --max-new-tokens "${NEW_TOKENS:-64}" --replicas "$1" --tp "$2" \
        --batch "$batch" --threads "${THREADS:-0}" -o "$3" --progress 0 --log-level warn </dev/null
}

echo "# $("$PALIGRID" --version | head -n 1), $(uname -n), $(nproc) CPUs, $(date -u +%Y-%m-%dT%H:%M:%SZ)"
echo "# model $model, $records records, batch $batch; load average $(cut -d' ' -f1 /proc/loadavg)"
printf '%3s %3s %12s %10s %12s %10s\n' R T records/s spread tokens/s input_wait
for shape in "${shapes[@]}"; do
    for ((k = 0; k < repeat; k++)); do
        rm -rf "$work/out"
        run_once "${shape%x*}" "${shape#*x}" "$work/out"
        cp "$work/out/stats.json" "$work/$shape.$k.json"
    done
    "$PYTHON" - "${shape%x*}" "${shape#*x}" "$work/$shape".*.json <<'END'
import json
import sys

runs = sorted((json.load(open(name))["run"] for name in sys.argv[3:]), key=lambda r: r["records_per_s"])
r = runs[len(runs) // 2]
spread = (runs[-1]["records_per_s"] - runs[0]["records_per_s"]) / r["records_per_s"]
print(f"{sys.argv[1]:>3} {sys.argv[2]:>3} {r['records_per_s']:12.2f} {100 * spread:9.1f}% {r['tokens_per_s']:12.1f} {100 * r['input_wait_share']:9.2f}%")
END
done
