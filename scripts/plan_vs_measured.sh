#!/usr/bin/env bash
# Compares what `paligrid plan` predicts with what bench measures: plan_vs_measured.sh [OUT_DIR]
#
# Rates are fitted from one rank at the first model, and from exchanges alone on 2 ranks and more; with
# them every model and rank count is predicted and measured: one image, prefill, and an answer. A
# shared machine changes its speed meanwhile, so a second prediction is scaled by bench's own probes
# of the measured rounds (arithmetic for vision and prefill, reading for the answer); its deviation is
# the one that says how good the model is. Exit status 1 when that exceeds MAX_DEVIATION.
# Settings: MODELS ("3b-224 3b-448"), RANKS ("1 2 3 4"), REPETITIONS (3), NEW_TOKENS (16), MAX_DEVIATION
# (0.15), BIND (none), PALIGRID, PYTHON. Takes some minutes, and 6.5 GB of memory for 3b.
set -euo pipefail
cd "$(dirname "$0")/.."

MODELS=${MODELS:-3b-224 3b-448}
RANKS=${RANKS:-1 2 3 4}
REPETITIONS=${REPETITIONS:-3}
NEW_TOKENS=${NEW_TOKENS:-16}
MAX_DEVIATION=${MAX_DEVIATION:-0.15}
PALIGRID=${PALIGRID:-build/release/paligrid}
PYTHON=${PYTHON:-/usr/bin/python3}
export BIND=${BIND:-none} PALIGRID
out=${1:-$(mktemp -d "${TMPDIR:-/tmp}/paligrid-plan.XXXXXX")}
mkdir -p "$out"

bench() { # RANKS MODEL OPTIONS...: rows of JSON
    launch/local.sh -n "$1" -- paligrid bench --model "synthetic:$2" -o json --log-level warn \
        -r "$REPETITIONS" -n "$NEW_TOKENS" "${@:3}"
}

first=${MODELS%% *}
echo "calibrating on one rank with $first ..." >&2
bench 1 "$first" --account --phases vision,prefill,decode >"$out/machine.json"
for n in $RANKS; do
    if ((n > 1)); then
        bench "$n" "$first" --phases comm >>"$out/machine.json"
    fi
done
for model in $MODELS; do
    for n in $RANKS; do
        echo "measuring $model on $n ranks ..." >&2
        bench "$n" "$model" --phases vision,prefill,decode >"$out/measured-$model-$n.json"
        "$PALIGRID" plan --model "$model" --machine "$out/machine.json" --ranks-per-node "$n" --tp "$n" \
            --batch 1 -n "$NEW_TOKENS" --json >"$out/plan-$model-$n.json"
    done
done

"$PYTHON" - "$out" "$MAX_DEVIATION" "$NEW_TOKENS" "$MODELS" "$RANKS" <<'END'
import json
import os
import sys

out, limit, n_new, models, ranks = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(), sys.argv[5].split()


def rows(path):
    with open(os.path.join(out, path)) as f:
        return {r["phase"]: r for r in map(json.loads, f) if r["ranks"] == 1 or path != "machine.json"}


then = rows("machine.json")
print(f"{'model':8} {'ranks':>5} {'measured s':>28} {'predicted s':>28} {'off':>7} {'probes':>11} {'at these probes':>16} {'off':>7}")
print(f"{'':8} {'':5} {'vision   prefill    step':>28} {'vision   prefill    step':>28} {'':7} {'flop read':>11}")
worst = 0
for model in models:
    for n in ranks:
        now = rows(f"measured-{model}-{n}.json")
        with open(os.path.join(out, f"plan-{model}-{n}.json")) as f:
            plan = json.load(f)["rows"][0]
        text = now["prefill_text"]
        n_tok = text["text_tokens"] + (int(model.split("-")[1]) // 14) ** 2
        measured = (now["vision"]["ms"] / 1e3, n_tok * text["ms"] / 1e3, now["decode"]["ms"] / 1e3)
        predicted = (plan["vision_s"], plan["prefill_s"], plan["step_s"])
        flops = [now[p]["gflop_s"] / then[p]["gflop_s"] for p in ("vision", "prefill_text")]
        read = now["decode"]["read_gb_s"] / then["decode"]["read_gb_s"]
        scaled = (predicted[0] / flops[0], predicted[1] / flops[1], predicted[2] / read)
        total = [x[0] + x[1] + (n_new - 1) * x[2] for x in (measured, predicted, scaled)]
        off, off_scaled = total[1] / total[0] - 1, total[2] / total[0] - 1
        worst = max(worst, abs(off_scaled))
        three = lambda x: f"{x[0]:8.3f} {x[1]:9.3f} {x[2]:9.4f}"
        print(f"{model:8} {n:>5} {three(measured)} {three(predicted)} {off:+7.1%} {flops[1]:5.2f} {read:5.2f} {total[2]:9.3f} of {total[0]:.3f} {off_scaled:+7.1%}")
print(f"largest deviation at the probes of the measured rounds: {worst:.1%}")
sys.exit(worst > limit)
END
