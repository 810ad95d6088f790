#!/usr/bin/env bash
# The bundled model on its images: demo.sh. Called by `make demo`, which builds first.
#
# Asks every prompt of demo/prompts.tsv on RANKS ranks (3) and again on one, checks that tokens,
# text and log-probabilities are the same, prints a table file x task -> answer, and draws the
# detected boxes into build/demo/contact_sheet.png.
# Variables: RANKS, VARIANT (release), BUILD (build), and those of launch/local.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

ranks=${RANKS:-3}
program=${BUILD:-build}/${VARIANT:-release}
out=${BUILD:-build}/demo
export PALIGRID=$program/paligrid

for needed in "$PALIGRID" "$program/contact_sheet"; do
    [[ -x $needed ]] || {
        echo "demo: $needed is missing; run make" >&2
        exit 1
    }
done
mkdir -p "$out"
# Paths from here, so that the rows name files that can be opened.
sed 's|^|demo/images/|' demo/prompts.tsv >"$out/list.tsv"

ask() { # RANKS FILE
    echo "demo: $(wc -l <"$out/list.tsv") prompts on $1 rank(s)" >&2
    launch/local.sh -n "$1" -- paligrid run --model demo/model --list "$out/list.tsv" --images . \
        --json --log-level warn >"$2"
}

# Everything of a row that may not depend on ranks: the keys up to "window" (src/cli/answers.c).
without_run() { # FILE
    sed 's/,"window":.*//' "$1"
}

# A string of a row, with its quotes and backslashes.
value() { # KEY LINE
    local rest=${2#*\""$1"\":\"} text
    text=${rest%%\",\"*}
    text=${text//\\\"/\"}
    printf '%s' "${text//\\\\/\\}"
}

print_table() { # FILE
    local line file task wide_file=4 wide_task=4
    while IFS=$'\t' read -r file task; do
        file=${file##*/}
        ((${#file} <= wide_file)) || wide_file=${#file}
        ((${#task} <= wide_task)) || wide_task=${#task}
    done <"$out/list.tsv"
    pad() { printf '%s%*s  ' "$1" $(($2 - ${#1})) ''; }
    pad file "$wide_file"
    pad task "$wide_task"
    echo answer
    while IFS= read -r line; do
        file=$(value image "$line")
        pad "${file##*/}" "$wide_file"
        pad "$(value prompt "$line")" "$wide_task"
        value text "$line"
        echo
    done <"$1"
}

ask "$ranks" "$out/answers.jsonl"
ask 1 "$out/answers.one.jsonl"
print_table "$out/answers.jsonl"
echo
if ! diff <(without_run "$out/answers.jsonl") <(without_run "$out/answers.one.jsonl") >"$out/difference"; then
    echo "demo: answers of $ranks ranks and of one differ; see $out/difference" >&2
    exit 1
fi
rm "$out/difference"
echo "Text, tokens and log-probabilities are the same on $ranks ranks and on one."
"$program/contact_sheet" "$out/contact_sheet.png" <"$out/answers.jsonl"
echo "Rows: $out/answers.jsonl   Boxes drawn: $out/contact_sheet.png"
