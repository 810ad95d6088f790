#!/usr/bin/env bash
# What int8 and int4 weights do to a model: the distributions of a tiny random model and of the demo
# model against those of their own weights (scripts/quant_quality.py), then the demo model's accuracy by
# task (scripts/demo_quality.py).
#   scripts/quality.sh [-n SCENES] [FORM...]      100 scenes a task; int8 int8/int8 int4
# int8/int8: int8 weights with int8 activations (--activations int8).
# Python packages (NumPy, h5py, Pillow) come from PYTHON, else from a venv made in build/quality.
set -euo pipefail
cd "$(dirname "$0")/.."

scenes=100
if [ "${1:-}" = -n ]; then
    scenes=$2
    shift 2
fi
case "${1:-}" in -h | --help)
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
esac
forms=("${@:-int8}")
[ $# -gt 0 ] || forms=(int8 int8/int8 int4)
program=${PALIGRID:-$PWD/paligrid}
python=${PYTHON:-}
if [ -z "$python" ]; then
    python=$PWD/build/quality/bin/python
    [ -x "$python" ] || python3 -m venv build/quality
    "$python" -c 'import numpy, h5py, PIL' 2>/dev/null || "$python" -m pip install -q numpy h5py pillow
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# distributions MODEL CASES IMAGES: one table a form
distributions() {
    "$program" dump --model "$1" --cases "$2" --images "$3" --out "$work/full.h5" --log-level warn
    for form in "${forms[@]}"; do
        options=(--weights "${form%/*}")
        [ "$form" = "${form%/*}" ] || options+=(--activations "${form#*/}")
        "$program" dump --model "$1" --cases "$2" --images "$3" --out "$work/form.h5" --log-level warn "${options[@]}" \
            --force "$work/full.h5"
        echo "== $1, $form against its own weights"
        "$python" scripts/quant_quality.py "$work/full.h5" "$work/form.h5"
    done
}

"$python" tests/golden/cases_of.py tests/data/oracle/golden/micro.f32.h5 "$work/micro.json"
distributions tests/data/oracle/ckpt_micro "$work/micro.json" tests/data/oracle/images
"$python" - >"$work/demo.json" <<'EOF_PY'
import json
rows = [line.rstrip("\n").split("\t") for line in open("demo/prompts.tsv", encoding="utf-8")]
print(json.dumps({f"demo{i:02d}": {"rows": [{"images": [image], "prompt": prompt}]} for i, (image, prompt) in enumerate(rows)}))
EOF_PY
distributions demo/model "$work/demo.json" demo/images
echo "== demo/model, right answers by task"
list=auto
for form in "${forms[@]}"; do list+=,$form; done
PALIGRID=$program "$python" scripts/demo_quality.py -n "$scenes" --weights "$list"
