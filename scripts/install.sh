#!/usr/bin/env bash
# Copies an installation into place: install.sh PROGRAM ROOT SHARED... (make install calls it)
#
# ROOT is DESTDIR and PREFIX together; files that name their place say PREFIX. SHARED are files and
# folders of the checkout that go below ROOT/share/paligrid.
# Settings: PREFIX (ROOT), VERSION, PYTHON (python3, for man pages and completion; needed only here).
set -euo pipefail

if (($# < 2)); then
    echo "usage: scripts/install.sh PROGRAM ROOT SHARED..." >&2
    exit 64
fi
program=$1 root=$2
shift 2
PREFIX=${PREFIX:-$root}
VERSION=${VERSION:-0}
PYTHON=${PYTHON:-python3}
source=$(cd "$(dirname "$0")/.." && pwd)

install -D -m 755 "$program" "$root/bin/paligrid"
for document in LICENSE README.md DESIGN.md; do
    install -D -m 644 "$source/$document" "$root/share/doc/paligrid/$document"
done

for shared in "$@"; do
    (cd "$source" && find "$shared" -type f -print0) | while IFS= read -r -d '' file; do
        mode=644
        [[ ! -x $source/$file ]] || mode=755
        install -D -m "$mode" "$source/$file" "$root/share/paligrid/$file"
    done
done

made=$(mktemp -d "${TMPDIR:-/tmp}/paligrid-install.XXXXXX")
trap 'rm -rf "$made"' EXIT
"$program" --help --json | "$PYTHON" "$source/scripts/packaging/generate.py" "$made"
for page in "$made"/man1/*; do
    install -D -m 644 "$page" "$root/share/man/man1/${page##*/}"
done
install -D -m 644 "$made/completions/paligrid" "$root/share/bash-completion/completions/paligrid"

sed "s|@PREFIX@|$PREFIX|; s|@VERSION@|$VERSION|" "$source/scripts/packaging/modulefile.in" >"$made/module"
install -D -m 644 "$made/module" "$root/share/modulefiles/paligrid/$VERSION"
echo "installed under $root"
