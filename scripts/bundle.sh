#!/usr/bin/env bash
# Makes one relocatable tar of program, libraries and Open MPI's run time: bundle.sh PREFIX OUT.tar.gz
#
# PREFIX holds an installation (make install). The tar holds NAME/bin/{paligrid,mpirun,orted}, started
# by scripts/packaging/bundle_start.c, and below NAME/lib all libraries they need, the C library and its
# loader included: it runs on any x86-64 Linux with /proc, whatever is installed there. Ranks exchange
# through shared memory and TCP; plugins for other networks need drivers of the machine and stay out.
# Settings: CC (gcc), MPIRUN (mpirun), OMPI_PLUGINS, OMPI_DATA, PMIX_PLUGINS, PMIX_DATA (found by ompi_info).
set -euo pipefail

if (($# != 2)); then
    echo "usage: scripts/bundle.sh PREFIX OUT.tar.gz" >&2
    exit 64
fi
prefix=$(realpath "$1")
out=$(realpath -m "$2")
source=$(cd "$(dirname "$0")/.." && pwd)
CC=${CC:-gcc}

directory_of() { # KEY of ompi_info
    ompi_info --parsable --path "$1" | sed -n "s/^path:$1://p"
}
[[ $(uname -m) = x86_64 ]] || { echo "bundle.sh: bundles are made for x86-64 only" >&2; exit 69; }
command -v ompi_info >/dev/null || { echo "bundle.sh: needs Open MPI (ompi_info)" >&2; exit 69; }
OMPI_PLUGINS=${OMPI_PLUGINS:-$(directory_of pkglibdir)}
OMPI_DATA=${OMPI_DATA:-$(directory_of pkgdatadir)}
OMPI_ETC=${OMPI_ETC:-$(directory_of sysconfdir)}
bin=$(directory_of bindir)

name=$(basename "$out")
name=${name%.tar.gz}
stage=$(mktemp -d "${TMPDIR:-/tmp}/paligrid-bundle.XXXXXX")
trap 'rm -rf "$stage"' EXIT
root=$stage/$name
mkdir -p "$root"/{bin,lib/openmpi3,lib/pmix2,libexec,etc/openmpi,share/openmpi,share/pmix2,share/licenses}

# ---- programs ----
install -s -m 755 "$prefix/bin/paligrid" "$root/libexec/paligrid"
install -m 755 "$bin/orterun" "$root/libexec/mpirun"
install -m 755 "$bin/orted" "$root/libexec/orted"
"$CC" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Os -static -s -o "$root/bin/paligrid" "$source/scripts/packaging/bundle_start.c"
ln "$root/bin/paligrid" "$root/bin/mpirun"
ln "$root/bin/paligrid" "$root/bin/orted"
cp -r "$prefix/share/." "$root/share/"

# ---- plugins: no drivers of networks, nothing of OpenSHMEM ----
for plugin in "$OMPI_PLUGINS"/mca_*.so; do
    case ${plugin##*/} in
    *ucx* | *ofi* | *psm* | *openib* | *monitoring* | *flux* | *jsm* | mca_atomic_* | mca_memheap_* | mca_scoll_* | mca_spml_* | mca_sshmem_*) ;;
    *) cp "$plugin" "$root/lib/openmpi3/" ;;
    esac
done
cp -r "$OMPI_DATA/." "$root/share/openmpi/"
[[ ! -d $OMPI_ETC ]] || cp -rL "$OMPI_ETC/." "$root/etc/openmpi/"
pmix=$(ldd "$OMPI_PLUGINS"/mca_pmix_ext*.so | sed -n 's/.*libpmix\.so[.0-9]* => \([^ ]*\) .*/\1/p' | head -n 1)
if [[ -n $pmix ]]; then
    pmix_root=$(dirname "$(dirname "$(realpath "$pmix")")")
    PMIX_PLUGINS=${PMIX_PLUGINS:-$(dirname "$(find "$pmix_root" -name '*mca_*.so' -print -quit)")}
    PMIX_DATA=${PMIX_DATA:-$(find "$pmix_root/share" -type d -name 'pmix*' 2>/dev/null | head -n 1)}
    [[ -z ${PMIX_PLUGINS} ]] || cp -L "$PMIX_PLUGINS"/*.so "$root/lib/pmix2/"
    [[ -z ${PMIX_DATA} ]] || cp -r "$PMIX_DATA/." "$root/share/pmix2/"
fi

# ---- libraries of all of these ----
mapfile -t needed < <(find "$root/libexec" "$root/lib" -type f -exec ldd {} + 2>/dev/null |
    sed -n 's/.* => \(\/[^ ]*\) .*/\1/p; s/^\t\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p' | sort -u)
for library in "${needed[@]}"; do
    cp -L "$library" "$root/lib/"
done
[[ -e $root/lib/ld-linux-x86-64.so.2 ]] || { echo "bundle.sh: no dynamic loader among the libraries" >&2; exit 70; }

# ---- whose they are ----
if command -v dpkg-query >/dev/null; then
    mapfile -t real < <(realpath "${needed[@]}" | sort -u)
    # Packages name files with or without /usr; the other spelling is not found.
    { dpkg-query -S "${real[@]}" "${real[@]#/usr}" 2>/dev/null || true; } | sed 's/[:,].*//' | sort -u | while read -r package; do
        [[ ! -e /usr/share/doc/$package/copyright ]] ||
            cp -L "/usr/share/doc/$package/copyright" "$root/share/licenses/$package"
    done
fi

mkdir -p "$(dirname "$out")"
tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out.new" "$name"
mv "$out.new" "$out"
echo "$out: $(du -h "$out" | cut -f1), ${#needed[@]} libraries"
