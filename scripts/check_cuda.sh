#!/usr/bin/env bash
# Builds with CUDA, warnings being errors, and checks what needs no GPU: check_cuda.sh
#
# The program must start and answer on a machine without a driver, say what it lacks when it is asked
# for a GPU. Where tests/gpu.sh was prepared, it must come to its own end. Fetches cuBLAS and NCCL where it can, because
# the files that use them are left out otherwise. Exit status 77, and the reason as the last line,
# where there is no nvcc. Variables: BUILD (build/cuda), WHEELS (build/cuda-wheels).
set -euo pipefail
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build/cuda}
WHEELS=${WHEELS:-build/cuda-wheels}

if [[ -z ${CUDA_HOME:-} && ! -x $WHEELS/nvidia/cu13/bin/nvcc ]] && ! command -v nvcc >/dev/null; then
    echo "no nvcc (CUDA_HOME, or scripts/install_cuda_wheels.sh --toolkit)"
    exit 77
fi
scripts/install_cuda_wheels.sh "$WHEELS" ||
    echo "check_cuda: no cuBLAS or NCCL to be had here: lt.c and comm_nccl.c are not compiled"
make -j "$(nproc)" CUDA=1 WERROR=1 BUILD="$BUILD" CUDA_WHEELS="$WHEELS" all
program=$BUILD/release/paligrid

check() { # WHAT COMMAND...
    local what=$1
    shift
    "$@" || {
        echo "check_cuda: $what" >&2
        exit 1
    }
}
if ldd "$program" | grep -E 'libcuda|libcublas|libnccl|libcudart'; then
    echo "check_cuda: the program needs CUDA's libraries to start" >&2
    exit 1
fi
ask=("$program" run --model demo/model -p "caption en" --max-new-tokens 2 demo/images/01_one_112.png)
check "no answer with --device auto" "${ask[@]}" >/dev/null
if ! nvidia-smi -L >/dev/null 2>&1; then
    status=0
    said=$("${ask[@]}" --device cuda 2>&1 >/dev/null) || status=$?
    check "exit status $status instead of 78: $said" test "$status" = 78
    check "not told what is missing: $said" grep -q 'no NVIDIA driver\|sees no GPU\|no GPU is visible' <<<"$said"
    if [[ -e build/gpu/gpu.tar.xz ]]; then
        status=0
        tests/gpu.sh >/dev/null || status=$?
        check "tests/gpu.sh: exit status $status instead of 77" test "$status" = 77
    fi
fi
check "tests/gpu.sh --dry-run" tests/gpu.sh --dry-run >/dev/null
echo "check_cuda: built and degrades as it should"
