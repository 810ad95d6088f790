#!/usr/bin/env bash
# RANKS: 1
# An installation: the program starts from its new place, every command and option is in the man pages
# and the completion, the module file names the prefix, launch scripts and demo are there.
set -euo pipefail
cd "$(dirname "$0")/../.."

PALIGRID=${PALIGRID:-build/release/paligrid}
PYTHON=${PYTHON:-/usr/bin/python3}
tmp=${TEST_TMP:-$(mktemp -d)}
prefix='/opt/some where' # with a blank, as people have them
root=$tmp$prefix
failures=0
fail() {
    echo "FAIL $*"
    failures=$((failures + 1))
}

PREFIX=$prefix VERSION=1.2.3 PYTHON=$PYTHON scripts/install.sh "$PALIGRID" "$root" configs launch demo/model demo/images demo/expected.tsv >/dev/null
[[ $("$root/bin/paligrid" --version) = "$("$PALIGRID" --version)" ]] || fail "the installed program"
grep -q "set root \"$prefix\"" "$root/share/modulefiles/paligrid/1.2.3" || fail "module file"
[[ -x $root/share/paligrid/launch/local.sh && ! -x $root/share/paligrid/configs/caption.conf ]] || fail "modes"
cmp -s demo/expected.tsv "$root/share/paligrid/demo/expected.tsv" || fail "demo"

# Words of the help in the pages: hyphens are escaped there.
"$PALIGRID" --help --json >"$tmp/table.json"
"$PYTHON" - "$tmp/table.json" "$root/share" <<'END' || failures=$((failures + 1))
import json, os, sys
table, share, bad = json.load(open(sys.argv[1])), sys.argv[2], 0
completion = open(os.path.join(share, "bash-completion/completions/paligrid")).read()
overview = open(os.path.join(share, "man/man1/paligrid.1")).read()
if len(table["commands"]) < 4:
    sys.exit(f"only {len(table['commands'])} commands")
for c in table["commands"]:
    page = open(os.path.join(share, f"man/man1/paligrid-{c['name']}.1")).read()
    for o in c["options"]:
        if "\\-\\-" + o["key"].replace("-", "\\-") not in page or "--" + o["key"] not in completion:
            bad += 1
            print("missing", c["name"], o["key"])
    if f"paligrid\\-{c['name']}" not in overview:
        bad += 1
        print("not in the overview:", c["name"])
sys.exit(bad > 0)
END
if command -v man >/dev/null; then
    MANWIDTH=80 man -l --warnings "$root/share/man/man1/paligrid-run.1" >"$tmp/page" 2>"$tmp/warnings" || fail "man page"
    [[ ! -s $tmp/warnings ]] || fail "the man page has $(head -n 1 "$tmp/warnings")"
fi

complete_words() { # WORDS...: what completion offers for the last one
    bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _paligrid; echo "${COMPREPLY[*]}"' - \
        "$root/share/bash-completion/completions/paligrid" "$@"
}
[[ $(complete_words paligrid pl) = plan ]] || fail "completion of a command: $(complete_words paligrid pl)"
[[ $(complete_words paligrid run --max-n) = --max-new-tokens ]] || fail "completion of an option"
[[ $(complete_words paligrid run --exif "") = "apply ignore" ]] || fail "completion of a choice"

[[ $failures = 0 ]]
