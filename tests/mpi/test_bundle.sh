#!/usr/bin/env bash
# RANKS: 2
# SLOW
# The relocatable tar, unpacked in a root that has nothing else but /proc, /dev and /tmp: the program
# starts, and the bundled model answers on several ranks as it does here.
set -euo pipefail
cd "$(dirname "$0")/../.."

PALIGRID=${PALIGRID:-build/release/paligrid}
RANKS=${RANKS:-2}
tmp=${TEST_TMP:-$(mktemp -d)}

skip() {
    echo "$*"
    exit 77
}
[[ ${VARIANT:-release} != asan ]] || skip "sanitizers look for their files outside of the bundle"
[[ $(uname -m) = x86_64 ]] || skip "bundles are made for x86-64"
command -v ompi_info >/dev/null || skip "bundles hold Open MPI, which is not here"
unshare --map-root-user --mount --pid --fork true 2>/dev/null || skip "no name spaces here"

PYTHON=${PYTHON:-/usr/bin/python3} scripts/install.sh "$PALIGRID" "$tmp/prefix" demo/model demo/images demo/expected.tsv >/dev/null
scripts/bundle.sh "$tmp/prefix" "$tmp/paligrid-test.tar.gz"
mkdir -p "$tmp/root"/{proc,dev,tmp}
tar -C "$tmp/root" -xzf "$tmp/paligrid-test.tar.gz"
mv "$tmp/root/paligrid-test" "$tmp/root/elsewhere" # it must not matter where it lies

in_root() { # COMMAND...: nothing of the environment either
    # shellcheck disable=SC2016 # the inner shell's
    unshare --map-root-user --mount --pid --fork sh -c '
        mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" &&
            exec env -i OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
                OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none \
                "$(command -v chroot || echo /usr/sbin/chroot)" "$0" "$@"' "$tmp/root" "$@"
}
in_root /elsewhere/bin/paligrid --version
expected=$(awk -F'\t' '$1 == "01_one_112.png" && $2 == "caption en" { print $3 }' demo/expected.tsv)
answer=$(in_root /elsewhere/bin/mpirun --oversubscribe --bind-to none -np "$RANKS" /elsewhere/bin/paligrid run \
    --model /elsewhere/share/paligrid/demo/model --prompt "caption en" \
    /elsewhere/share/paligrid/demo/images/01_one_112.png)
echo "answer: $answer"
[[ -n $expected && $answer = "$expected" ]]
