#!/usr/bin/env bash
# The back end for GPUs on a GPU, in one command: gpu.sh. Before it, elsewhere: gpu.sh --prepare.
#
# --prepare   where nvcc, the packages and the network are: see scripts/gpu_bundle.sh. The folder that
#             it fills (build/gpu, with a copy of this script) is all that the GPU machine needs,
#             besides a driver for CUDA 13, bash and tar.
# (none)      there, in at most BUDGET (480) seconds: what needs no GPU; then every operation against
#             its definition, the tiny configurations against golden data, two ranks on one GPU
#             against one, the same bits with --reproducible; then `paligrid bench` on made-up weights of
#             the published sizes, beside transformers where Python has torch with CUDA, as a table.
#             cuBLAS and NCCL are taken from that machine where they are, and said to be missing else.
# --rehearse  the same on the CPU, with a tiny model to measure.
# --dry-run   what would be measured.
# Ends with `N passed, N failed, N skipped`: exit status 1 when something failed, 77 without a GPU.
# Variables: BUDGET, MODELS, WEIGHTS (lists to measure), BUNDLE, PYTHON (to be asked for torch).
# shellcheck disable=SC2317 # functions are called by name, through step
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
if [[ -e $here/gpu.tar.xz ]]; then BUNDLE=${BUNDLE:-$here}; else BUNDLE=${BUNDLE:-$here/../build/gpu}; fi
BUDGET=${BUDGET:-480}
PEER_SECONDS=170 # of it, where there is torch
MODELS=${MODELS:-3b-448 3b-224 3b-896 10b-448 10b-224 10b-896 28b-448 28b-224 28b-896}
WEIGHTS=${WEIGHTS:-bf16 int8 int4}
CONFIGS="micro gqa2 gqa4 caps mha tp hot"
device=cuda tables="cuda," share=(--share-gpu) mode=run

usage() {
    sed -n '2,19s/^# \{0,1\}//p' "$0"
}
case ${1:-} in
--prepare)
    shift
    exec "$here/../scripts/gpu_bundle.sh" "$@"
    ;;
--rehearse) mode=rehearse device=cpu tables="avx2," share=() ;;
--dry-run) mode=dry ;;
--help)
    usage
    exit 0
    ;;
?*)
    usage >&2
    exit 64
    ;;
esac

# ---- counting ----
passed=0 failed=0 skipped=0 log=
left() { echo $((BUDGET - SECONDS)); }

step() { # NAME COMMAND...: 0 passes, 77 skips for the reason in the last line, others fail
    local name=$1 status=0 start=$SECONDS
    shift
    if (($(left) < 5)); then
        skipped=$((skipped + 1))
        echo "skipped: $name: out of time"
        return
    fi
    "$@" >"$log" 2>&1 || status=$?
    case $status in
    0)
        passed=$((passed + 1))
        echo "ok: $name ($((SECONDS - start)) s)"
        ;;
    77)
        skipped=$((skipped + 1))
        echo "skipped: $name: $(tail -n 1 "$log")"
        ;;
    *)
        failed=$((failed + 1))
        echo "FAILED: $name (exit status $status, $((SECONDS - start)) s)"
        tail -n 40 "$log" | sed 's/^/    | /'
        ;;
    esac
}
finish() {
    echo "$passed passed, $failed failed, $skipped skipped; $SECONDS s"
    ((failed == 0)) || exit 1
    exit "${1:-0}"
}

# ---- the bundle, and libraries of this machine ----
unpack() {
    [[ -e $BUNDLE/gpu.tar.xz ]] || {
        echo "gpu.sh: no gpu.tar.xz in $BUNDLE; run tests/gpu.sh --prepare where nvcc is" >&2
        exit 1
    }
    work=$(mktemp -d "${TMPDIR:-/tmp}/paligrid-gpu.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    log=$work/log
    cp "$BUNDLE/xz" "$work/"
    chmod +x "$work/xz"
    LD_LIBRARY_PATH=$BUNDLE${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$work/xz" -dc "$BUNDLE/gpu.tar.xz" | tar -C "$work" -x
}

find_library() { # NAME: the folder that holds it
    local dir found
    for dir in ${WHEELS:+"$WHEELS"} /usr/local/cuda*/lib64 /usr/local/cuda*/targets/*/lib /usr/lib/x86_64-linux-gnu \
        /usr/lib/python3*/*-packages /usr/local/lib/python3*/*-packages /opt /root /home; do
        [[ -d $dir ]] || continue
        found=$(timeout 20 find "$dir" -name "$1" -print -quit 2>/dev/null || true)
        [[ -z $found ]] || { dirname "$found" && return; }
    done
    found=$(ldconfig -p 2>/dev/null | sed -n "s|.* => \(.*/$1\)$|\1|p" | head -n 1)
    [[ -z $found ]] || dirname "$found"
}
# The driver's own folder is known to the linker, or stands in LD_LIBRARY_PATH, or is the usual one of containers.
set_libraries() {
    local name dir
    libraries=$work/mpi/lib:$work/mpi/lib/openmpi:$work/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    [[ $device = cuda ]] || return 0
    for dir in /usr/local/nvidia/lib64 /usr/local/nvidia/lib; do
        [[ ! -d $dir ]] || libraries+=:$dir
    done
    for name in libcublasLt.so.13 libnccl.so.2; do
        dir=$(find_library "$name")
        echo "$name: ${dir:-not found: done without}"
        libraries+=${dir:+:$dir}
    done
}
# Our libraries are for our programs alone: Python and nvidia-smi have their own.
ours() { # SECONDS PROGRAM ARGUMENT...
    local limit=$1 most
    most=$(left)
    shift
    LD_LIBRARY_PATH=$libraries OMP_WAIT_POLICY=passive timeout "$((limit < most ? limit : most > 1 ? most : 1))" "$@"
}
ranks() { # N PROGRAM ARGUMENT...
    local n=$1
    shift
    OPAL_PREFIX=$work/mpi ours 120 "$work/mpi/bin/mpirun" --allow-run-as-root \
        --oversubscribe --bind-to none --mca osc ^ucx -np "$n" "$@"
}
one() { # COMMAND OPTION...: on one rank, and on two that share the device
    ours 60 "$work/bin/paligrid" "$@"
}
two() {
    ranks 2 "$work/bin/paligrid" "$@" ${share[@]+"${share[@]}"}
}

# ---- checks without a GPU ----
all_libraries() {
    local lacks
    lacks=$(LD_LIBRARY_PATH=$libraries ldd "$work"/bin/* | grep 'not found' || true)
    [[ -z $lacks ]] || { echo "$lacks" && return 1; }
    one --version
}
host_ranks() {
    local sums
    ranks 2 "$work/bin/paligrid" bench --model "$work/demo/model" --phases comm --device ref -r 1 -o json --log-level warn >"$work/comm" || return
    sums=$(grep -c '"ranks":2' "$work/comm")
    ((sums == 2))
}
# What a machine without a GPU is told: the right words with the right exit status.
missing_gpu() {
    local status=0
    one run --model "$work/demo/model" -p x --max-new-tokens 1 --device cuda \
        "$work/demo/images/01_one_112.png" >"$work/out" 2>"$work/err" || status=$?
    cat "$work/err"
    [[ $status = 78 && ! -s $work/out ]] && grep -q 'no NVIDIA driver\|sees no GPU\|no GPU is visible\|is a stub' "$work/err"
}

# ---- checks on the device ----
contract() { # TEST: on the device's tables alone, both of which must be there
    PALIGRID_TEST_TABLES=$tables ours 150 "$work/bin/$1"
}
dump() { # ONE|TWO CONFIG OUT OPTION...
    local start=$1 config=$2 out=$3
    shift 3
    "$start" dump --model "$work/golden/$config/model" --cases "$work/golden/$config/cases.json" --images "$work/golden/images" \
        --force "$work/golden/$config/bounds.h5" --window hf --log-level warn --out "$out" --device "$device" "$@"
}
compare() { # [--same] WANTED.h5 DUMP.h5
    ours 60 "$work/bin/test_golden_bounds" "$@"
}
golden() { # CONFIG
    dump one "$1" "$work/$1.h5" && compare "$work/golden/$1/bounds.h5" "$work/$1.h5"
}
reproducible() { # CONFIG: the same bits of one rank, twice, and of two
    dump one "$1" "$work/one.h5" --reproducible && dump one "$1" "$work/again.h5" --reproducible &&
        dump two "$1" "$work/two.h5" --reproducible && compare --same "$work/one.h5" "$work/again.h5" &&
        compare --same "$work/one.h5" "$work/two.h5"
}
answers() { # OUT ONE|TWO OPTION...: what the demo model says: a line of file, prompt and tokens each
    local out=$1 start=$2
    shift 2
    "$start" run --model "$work/demo/model" --list "$work/list" --images "$work" --json --log-level warn "$@" >"$work/json" || return
    grep -o '"image":"[^"]*"\|"prompt":"[^"]*"\|"tokens":\[[^]]*\]' "$work/json" | paste -d' ' - - - >"$out"
    [[ $(wc -l <"$out") = "$(wc -l <"$work/list")" ]] || { echo "$(wc -l <"$out") answers" && return 1; }
}
same_tokens() { # WEIGHTS
    answers "$work/one" one --device "$device" --weights "$1" && answers "$work/two" two --device "$device" --weights "$1" &&
        diff "$work/one" "$work/two"
}
near_plain_loops() { # roundings to bf16 may turn a few of the demo's answers
    local all equal
    answers "$work/plain" one --device ref && answers "$work/fast" one --device "$device" || return
    all=$(wc -l <"$work/plain")
    equal=$(comm -12 <(sort "$work/plain") <(sort "$work/fast") | wc -l)
    echo "$equal of $all answers are those of the plain loops"
    ((all > 0 && equal * 10 >= all * 9))
}
refused() { # two ranks on one GPU, for that reason and no other
    local status=0 n_gpus
    n_gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
    ((n_gpus <= 1)) || { echo "$n_gpus GPUs here: two ranks take two of them" && return 77; }
    ranks 2 "$work/bin/paligrid" run --model "$work/demo/model" -p x --device cuda "$work/demo/images/01_one_112.png" \
        >"$work/out" 2>"$work/err" || status=$?
    cat "$work/err"
    [[ $status = 64 && ! -s $work/out ]] && grep -q 'have the same GPU' "$work/err"
}
memory_check() {
    local tool status=0
    tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null || true)
    [[ -n $tool ]] || { echo "no compute-sanitizer here" && return 77; }
    ours 90 "${tool%%$'\n'*}" --error-exitcode 9 "$work/bin/paligrid" run --model "$work/demo/model" -p "caption en" \
        --max-new-tokens 4 --device cuda "$work/demo/images/01_one_112.png" >"$work/sanitizer" 2>&1 || status=$?
    cat "$work/sanitizer"
    ! grep -q 'Device not supported\|Unable to initialize' "$work/sanitizer" || { echo "compute-sanitizer cannot use this GPU" && return 77; }
    return "$status"
}
check_device() {
    local test config
    for test in linear attention quant rows; do
        step "operations: $test" contract "test_ops_$test"
    done
    for config in $CONFIGS; do
        step "golden data: $config" golden "$config"
    done
    step "the demo's answers, and those of plain loops" near_plain_loops
    step "tokens of two ranks on one device" same_tokens bf16
    step "tokens of two ranks on one device, int8" same_tokens int8
    step "bits of one and two ranks, reproducible" reproducible tp
    [[ $mode = rehearse ]] && return
    step "two ranks on one GPU are refused without --share-gpu" refused
    step "memory checker" memory_check
}

# ---- speeds ----
number() { # KEY PHASE FILE: of a row of bench -o json, 0 where there is none
    sed -n "/\"phase\":\"$2\"/s/.*\"$1\":\([-+.0-9e]*\).*/\1/p" "$3" | head -n 1 | grep . || echo 0
}
measure() { # MODEL WEIGHTS: a row of the table; false when time is out
    local status=0 rows=$work/rows start=$SECONDS
    ours 200 "$work/bin/paligrid" bench --model "$(source_of "$1")" --weights "$2" --device "$device" -r 2 --max-new-tokens 32 \
        --phases vision,prefill,decode,e2e -o json --log-level warn >"$rows" 2>"$log" || status=$?
    case $status in
    0) ;;
    124)
        echo "$1 $2: out of time after $((SECONDS - start)) s" >>"$work/dropped"
        return 1
        ;;
    71)
        echo "$1 $2: $(sed -n 's/.*: \([0-9].* fit .*\)/\1/p' "$log" | head -n 1)" >>"$work/unfit"
        return
        ;;
    *)
        failed=$((failed + 1))
        echo "FAILED: bench $1 $2 (exit status $status)"
        tail -n 5 "$log" | sed 's/^/    | /'
        return
        ;;
    esac
    passed=$((passed + 1))
    echo "$1 $2 $(number median e2e "$rows") $(number median prefill "$rows") $(number share_of_ceiling prefill "$rows")" \
        "$(number gflop_s prefill "$rows") $(number median decode "$rows") $(number share_of_ceiling decode "$rows")" \
        "$(number read_gb_s decode "$rows") $((SECONDS - start))" | tee -a "$work/table" | sed 's/^/measured: /'
}
source_of() { # MODEL
    if [[ $mode = rehearse ]]; then echo "$work/golden/$1/model"; else echo "synthetic:$1"; fi
}
cases() { # all of the first form, then the other forms, model by model
    local model weights
    for model in $MODELS; do echo "$model ${WEIGHTS%% *}"; done
    for model in $MODELS; do
        for weights in $WEIGHTS; do
            [[ $weights = "${WEIGHTS%% *}" ]] || echo "$model $weights"
        done
    done
}
measure_all() { # SECONDS that must be left
    local model weights
    while read -r model weights; do
        if (($(left) - $1 < 15)); then
            echo "$model $weights" >>"$work/dropped"
        elif ! BUDGET=$((BUDGET - $1)) measure "$model" "$weights"; then
            continue
        fi
    done < <(cases)
}
python_with_torch() {
    local python
    for python in ${PYTHON:-} python3 python3.12 python3.11 /opt/*/bin/python3 /opt/*/.venv/bin/python3 /usr/bin/python3; do
        command -v "$python" >/dev/null || continue
        timeout 60 "$python" -c 'import torch, transformers; assert torch.cuda.is_available()' 2>/dev/null && {
            echo "$python"
            return
        }
    done
}
peers() { # transformers on the same models, as long as time allows
    local most status=0
    most=$(($(left) - 5))
    # shellcheck disable=SC2086  # a list of words
    timeout "$((most > 1 ? most : 1))" "$1" "$work/scripts/bench_gpu_peer.py" --compile $MODELS >"$work/peers" 2>"$log" || status=$?
    grep '^#' "$work/peers" || true
    ((status == 0)) || echo "transformers: exit status $status$( ((status == 124)) && echo ', out of time'); $(tail -n 1 "$log")"
    grep '"failed"' "$work/peers" || true
}
print_table() {
    touch "$work/table" "$work/peers" "$work/dropped" "$work/unfit"
    awk -v peers="$work/peers" '
        function field(line, key,   at) {
            at = index(line, "\"" key "\": ")
            if (!at) return ""
            line = substr(line, at + length(key) + 4)
            sub(/^"/, "", line)
            sub(/[",}].*$/, "", line)
            return line
        }
        BEGIN {
            while ((getline line < peers) > 0) {
                rate = field(line, "images_s")
                model = field(line, "model")
                if (rate + 0 > best[model] + 0) { best[model] = rate; kind[model] = field(line, "kind") }
            }
            printf "%-8s %-5s %9s %10s %8s %6s %9s %7s %6s %6s %12s %6s\n", "model", "form", "images/s", "prefill/s",
                "TFLOP/s", "share", "decode/s", "GB/s", "share", "s", "transformers", "times"
        }
        {
            printf "%-8s %-5s %9.3f %10.0f %8.1f %5.0f%% %9.1f %7.0f %5.0f%% %6d", $1, $2, $3, $4, $5 * $6 / 1e3, 100 * $5, $7,
                $8 * $9, 100 * $8, $10
            if ($1 in best) printf " %12.3f %6.2f  (%s)", best[$1], $3 / best[$1], kind[$1]
            print ""
        }' "$work/table"
    sed 's/^/does not fit: /' "$work/unfit"
    sed 's/^/dropped, no time left: /' "$work/dropped"
}
measure_speeds() {
    local python="" keep=0
    [[ $device != cuda ]] || python=$(python_with_torch || true)
    [[ -z $python ]] || keep=$PEER_SECONDS
    measure_all "$keep"
    if [[ -n $python ]]; then
        peers "$python"
    elif [[ $mode = rehearse ]]; then
        printf '{"model": "tp", "kind": "sdpa", "first_s": 0.1, "whole_s": 0.5, "images_s": 2.0}\n' >"$work/peers"
    else
        echo "transformers: no Python here that has it and torch with CUDA"
    fi
    print_table
}

# ---- all of it ----
if [[ $mode = dry ]]; then
    cases
    exit 0
fi
[[ $mode = run ]] || MODELS="tp gqa4"
unpack
set_libraries
sed 's|^|demo/images/|' "$work/demo/prompts.tsv" >"$work/list"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || true

step "programs start with the bundle's libraries" all_libraries
step "the comparison with golden data finds what is off" ours 30 "$work/bin/test_golden_bounds"
step "two ranks exchange through the bundle's Open MPI" host_ranks
if [[ $mode = run ]] && missing_gpu >"$log" 2>&1; then
    passed=$((passed + 1))
    echo "ok: a machine without a GPU is told so"
    echo "no GPU: $(grep -o 'no NVIDIA driver[^[]*\|the NVIDIA driver sees no GPU\|no GPU is visible[^[]*\|libcuda.*is a stub[^[]*' "$log" | head -n 1)"
    finish 77
fi
check_device
measure_speeds
finish
