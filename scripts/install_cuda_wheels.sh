#!/usr/bin/env bash
# Fetches what `make CUDA=1` lacks from PyPI: install_cuda_wheels.sh [--toolkit] [--list] [FOLDER]
#
# cuBLAS and NCCL (headers and libraries, 0.8 GB) go to FOLDER, build/cuda-wheels unless told
# otherwise; with --toolkit nvcc and its headers, too. Nothing outside FOLDER is touched. What is
# there already is not fetched again. Versions are those that belong to CUDA 13.0; CUDA_WHEELS
# replaces the list. The driver cannot be had this way and is needed only to run on a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
folder=build/cuda-wheels toolkit=no list=no
libraries="nvidia-cublas==13.0.2.14 nvidia-nccl-cu13==2.28.9"
compiler="nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-nvtx==13.0.85"

usage() {
    sed -n '2,7s/^# \{0,1\}//p' "$0"
}
for arg in "$@"; do
    case $arg in
    --toolkit) toolkit=yes ;;
    --list) list=yes ;;
    --help)
        usage
        exit 0
        ;;
    -*)
        usage >&2
        exit 64
        ;;
    *) folder=$arg ;;
    esac
done
wheels=$libraries
[[ $toolkit = no ]] || wheels="$wheels $compiler"
read -r -a wheels <<<"$(tr '\n' ' ' <<<"${CUDA_WHEELS:-$wheels}")"
if [[ $list = yes ]]; then
    printf '%s\n' "${wheels[@]}"
    exit 0
fi

"$PYTHON" -m pip --version >/dev/null 2>&1 || {
    echo "install_cuda_wheels.sh: $PYTHON has no pip; set PYTHON to one that has" >&2
    exit 1
}
missing=()
for wheel in "${wheels[@]}"; do
    info=$folder/${wheel%%==*}
    info=${info//-/_}-${wheel##*==}.dist-info
    [[ -d $folder/$(basename "$info") ]] || missing+=("$wheel")
done
if [[ ${#missing[@]} = 0 ]]; then
    echo "$folder has ${wheels[*]}"
    exit 0
fi
mkdir -p "$folder"
echo "fetching ${missing[*]} into $folder"
"$PYTHON" -m pip install --quiet --no-deps --upgrade --only-binary=:all: --no-compile \
    --disable-pip-version-check --root-user-action=ignore --target "$folder" "${missing[@]}"
