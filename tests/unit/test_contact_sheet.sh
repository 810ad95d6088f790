#!/usr/bin/env bash
# RANKS: 1
# The contact sheet of the demo: a PNG of the expected size from JSON lines; bad input is an error.
set -euo pipefail

sheet=$PALIGRID_BUILD/contact_sheet
images=tests/data/oracle/images
out=$TEST_TMP/sheet.png

fail() {
    echo "$*" >&2
    exit 1
}
expect() { # STATUS MESSAGE_PART INPUT ARGS...
    local status=$1 part=$2 input=$3 got=0
    shift 3
    printf '%s\n' "$input" | "$sheet" "$@" 2>"$TEST_TMP/stderr" || got=$?
    [[ $got = "$status" ]] || fail "exit status $got instead of $status for: $*"
    grep -qF -- "$part" "$TEST_TMP/stderr" || fail "no \"$part\" in: $(cat "$TEST_TMP/stderr")"
}

# Two pictures in two columns: 20 + 2 * (336 + 20) pixels wide.
"$sheet" "$out" <<LINES
{"image":"$images/rgb.png","prompt":"detect è","text":"<loc0000><loc0000><loc0512><loc0512> è","boxes":[{"label":"è","xyxy":[0,0,32.0,24]},{"label":"off","xyxy":[-5,-5,1e9,1e300]},{"label":"none"}],"width":64,"height":48}

{"image":"$images/exif6.jpg","prompt":"","text":"","width":45,"height":61}
{"image":"$images/rgb.png","prompt":"caption en","error":"too long"}
{"images":["a","b"],"prompt":"two pictures have no tile","text":"x"}
LINES
[[ $(head -c 8 "$out" | od -An -tx1 | tr -d ' \n') = 89504e470d0a1a0a ]] || fail 'not a PNG'
width=$((16#$(od -An -tx1 -j16 -N4 "$out" | tr -d ' \n')))
[[ $width = 732 ]] || fail "width $width instead of 732"

# A picture that cannot be read leaves a hole, not an error.
echo '{"image":"gone.png","prompt":"p","text":"t"}' | "$sheet" "$out" 2>"$TEST_TMP/stderr"
grep -qF 'gone.png' "$TEST_TMP/stderr" || fail 'the unreadable picture was not named'

expect 65 'line 1' '{"image":' "$out"
expect 65 'no answers' '' "$out"
expect 65 'no answers' '[1]' "$out"
expect 74 'cannot be written' '{"image":"gone.png"}' "$TEST_TMP/no/such/folder.png"
expect 64 'usage' '{}' "$out" 0
expect 64 'usage' '{}'
echo 'all good'
