#!/usr/bin/env bash
# Lists writable global state: check_globals.sh build/<variant>/libpaligrid.a
#
# The program's only one is the log's sink, set up once by main, with the last error of each thread. Looked at is every symbol in a
# writable section; .data.rel.ro is not one (constants with addresses in them, read-only once
# loaded). Exit status 1 when there is another.
set -euo pipefail

archive=${1:?usage: check_globals.sh ARCHIVE}
# The other exception: C++'s pointers to its run-time type information, which nobody writes.
allowed='^(log\.o log_(sink|last)|batch_signals\.o signals_(count|last)|[^ ]+ DW\.ref\..*)$'

found=$(nm -A --defined-only -f sysv "$archive" | tr -d ' ' |
    awk -F'|' '$NF ~ /^([.]t?data|[.]t?bss|[*]COM[*])/ && $NF !~ /^[.]data[.]rel[.]ro/ {
        split($1, part, ":")
        print part[2], part[3]
    }' | grep -vE "$allowed" || true)
if [[ -n $found ]]; then
    echo "writable global state (object, symbol):" >&2
    echo "$found" >&2
    exit 1
fi
