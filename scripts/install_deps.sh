#!/usr/bin/env bash
# Installs what building and testing need: install_deps.sh [--with-clang] [--with-slurm] [--with-video] [--list]
#
# On Debian and Ubuntu only the missing packages are installed, by apt-get as root or through sudo.
# Elsewhere, or without the rights, the list is printed with the names Spack has for them, and
# the exit status is 1 when something is missing, but for what only tests/hosts and tests/slurm need
# (--with-slurm: a Slurm whose services these tests start themselves).
set -euo pipefail

packages=(build-essential pkg-config git libopenmpi-dev openmpi-bin libhdf5-dev libjansson-dev
    libturbojpeg0-dev libwebp-dev libstb-dev libarchive-dev libsentencepiece-dev libseccomp-dev
    libxxhash-dev libhwloc-dev libssl-dev libcmocka-dev python3-numpy python3-h5py faketime)
clang_packages=(clang clang-format libclang-rt-14-dev shellcheck) # for CC=clang, fuzz, format, lint
slurm_packages=(slurmctld slurmd slurm-client munge iproute2 util-linux procps)
video_packages=(ffmpeg) # for frames of video files
spack_specs=(gmake pkgconf openmpi hdf5 jansson libjpeg-turbo libwebp stb libarchive sentencepiece libseccomp
    xxhash hwloc openssl cmocka py-numpy py-h5py)

usage() {
    echo "usage: scripts/install_deps.sh [--with-clang] [--with-slurm] [--with-video] [--list]"
    sed -n '2,7s/^# \{0,1\}//p' "$0"
}
list=no may_lack=()
for arg in "$@"; do
    case $arg in
    --with-clang) packages+=("${clang_packages[@]}") ;;
    --with-slurm) may_lack=("${slurm_packages[@]}") ;;
    --with-video) packages+=("${video_packages[@]}") ;;
    --list) list=yes ;;
    --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 64
        ;;
    esac
done

print_list() {
    echo "Debian, Ubuntu: apt-get install ${packages[*]} ${may_lack[*]}"
    echo "Spack:          spack install ${spack_specs[*]}"
}
if [[ $list = yes ]]; then
    print_list
    exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    if pkg-config --exists jansson libturbojpeg libwebp libxxhash hwloc sentencepiece 2>/dev/null &&
        command -v mpicc >/dev/null; then
        exit 0
    fi
    echo "This is not a Debian system; install these by its own means:" >&2
    print_list >&2
    exit 1
fi

list_missing() { # PACKAGES...
    local p installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    for p in "$@"; do
        grep -qx "installed $p" <<<"$installed" || echo "$p"
    done
}
mapfile -t missing < <(list_missing "${packages[@]}")
if ((${#may_lack[@]} > 0)); then
    mapfile -t may_lack < <(list_missing "${may_lack[@]}")
fi
((${#missing[@]} + ${#may_lack[@]} > 0)) || exit 0

as_root=()
if [[ $(id -u) != 0 ]]; then
    if ! command -v sudo >/dev/null; then
        [[ ${#missing[@]} -gt 0 ]] || exit 0
        echo "Missing: ${missing[*]}. Without root or sudo, install them by other means:" >&2
        print_list >&2
        exit 1
    fi
    as_root=(sudo)
fi
missing+=("${may_lack[@]}")
echo "Installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
