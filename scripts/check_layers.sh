#!/usr/bin/env bash
# Checks the order of the rooms: a file includes headers of its own room and of lower levels only,
# and a foreign library is included in one room only. Prints every offence; exit status 1 then.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck disable=SC2016 # the dollars are awk's
awk_program='
BEGIN {
    split("base:0 tensor:1 config:1 comm:1 topology:1 h5:1 tokenizer:1 image:1 sampler:1 dataset:2 results:2 " \
          "metrics:2 ops:2 weights:3 kvcache:3 tp:3 vision:4 decoder:4 engine:5 coord:6 plan:6 bench:7 cli:8", pair, " ")
    for (i in pair) {
        split(pair[i], p, ":")
        level[p[1]] = p[2]
    }
    n = split(private_headers, header, " ")
    for (i = 1; i <= n; i++)
        private[header[i]] = 1
    # A public header x.h belongs to the room x, else to the room that has an x.c, else, as x_y.h, to x.
    split("status json build_info", base, " ")
    for (i in base)
        room_of[base[i] ".h"] = "base"
    n = split(sources, source, " ")
    for (i = 1; i <= n; i++) {
        split(source[i], part, "/")
        if (!((part[2] ".h") in room_of))
            room_of[part[2] ".h"] = part[1]
    }
    for (room in level)
        room_of[room ".h"] = room
    n = split(public_headers, header, " ")
    for (i = 1; i <= n; i++) {
        split(header[i], part, "_")
        if (!(header[i] in room_of) && part[1] in level)
            room_of[header[i]] = part[1]
    }
    # Foreign headers, by pattern, and the room that may include them.
    foreign["^mpi\\.h$"] = "comm"
    foreign["^nccl\\.h$"] = "comm"
    foreign["^cublasLt\\.h$"] = "ops"
    foreign["^hdf5(_hl)?\\.h$"] = "h5"
    foreign["^jansson\\.h$"] = "base"
    foreign["^xxhash\\.h$"] = "base"
    foreign["^sentencepiece"] = "tokenizer"
    foreign["^(stb/)?stb_image"] = "image"
    foreign["^turbojpeg\\.h$|^jpeglib\\.h$|^webp/"] = "image"
    foreign["^openssl/"] = "cli"
    foreign["^hwloc\\.h$"] = "topology"
    foreign["^seccomp\\.h$"] = "image"
    foreign["^archive(_entry)?\\.h$"] = "dataset"
}
FNR == 1 {
    split(FILENAME, part, "/")
    own = part[2]
    if (FILENAME ~ /^include\//)
        own = room_of[part[2]]
    if (!(own in level))
        offence("the room has no level")
}
function offence(text) {
    print FILENAME ":" FNR ": " text
    bad = 1
}
/^[ \t]*#[ \t]*include/ {
    name = $0
    sub(/^[^"<]*["<]/, "", name)
    sub(/[">].*$/, "", name)
    if ($0 ~ /"/) {
        gsub(/[.][.]\//, "", name) # from a sub-folder up into its room
        if (name in room_of) {
            room = room_of[name]
            if (room != own && level[room] >= level[own])
                offence(own " (level " level[own] ") includes " name " of level " level[room])
        } else if (FILENAME ~ /^include\//) {
            offence("a public header includes the private " name)
        } else if (!((own "/" name) in private)) {
            offence(name " is neither public nor a header of " own)
        }
        next
    }
    for (pattern in foreign) {
        if (name ~ pattern && foreign[pattern] != own)
            offence(name " belongs to " foreign[pattern] " alone")
    }
}
END { exit bad }
'

# A private header is known as room/name, and by its path inside the room.
private=$(find src -name '*.h' | awk -F/ '{ print $2 "/" $NF; print substr($0, 5) }' | tr '\n' ' ')
public=$(find include -name '*.h' -printf '%f ')
# Every source file as room/name, without its ending.
sources=$(find src -name '*.c' | awk -F/ '{ sub("[.]c$", "", $NF); print $2 "/" $NF }' | tr '\n' ' ')
find src include \( -name '*.c' -o -name '*.h' -o -name '*.cc' \) -print0 | sort -z |
    xargs -0 awk -v private_headers="$private" -v public_headers="$public" -v sources="$sources" "$awk_program"
