#!/usr/bin/env bash
# Kills a batch again and again, goes on, and compares the end with a run that nobody disturbed:
#   scripts/kill_campaign.sh [--random N] [--moments N] [--seed N] [--records N] [--work DIR]
#
# Each round starts with an empty output directory. A random round kills a random rank (the
# coordinator is rank 0) with SIGKILL at a random time; a named one lets PALIGRID_FAULT kill at a
# named moment: around writes, fsyncs and renames, after dealing, before sending, while gathering,
# before packing. Then the same command goes on, with another number of ranks each time, and is
# killed at most twice more, until it is complete. results.jsonl must be the undisturbed run's, byte for byte,
# and the journal must hold every record once. Ends with a line of counts; exit status 1 when
# anything was lost, doubled or different.
#   --random N     rounds that kill at random times (100)
#   --moments N    rounds that kill at named moments (all 30)
#   --seed N       of the choices (1)
#   --records N    pictures (60), links to those of MODEL's demo
#   --work DIR     where to work; default a folder below TMPDIR, removed at the end
# Variables: PALIGRID (the program), MODEL, IMAGES, MPIRUN (with options, without -np).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

random=100 moments=30 seed=1 records=60 work=""
while (($# > 0)); do
    case $1 in
    --random | --moments | --seed | --records | --work)
        (($# > 1)) || { echo "$1 needs a value" >&2; exit 64; }
        printf -v "${1#--}" '%s' "$2"
        shift
        ;;
    *)
        sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
        [[ $1 = --help ]] && exit 0 || exit 64
        ;;
    esac
    shift
done

PALIGRID=${PALIGRID:-$here/build/release/paligrid}
MODEL=${MODEL:-$here/demo/model}
IMAGES=${IMAGES:-$here/demo/images}
read -r -a mpirun <<<"${MPIRUN:-mpirun --oversubscribe --bind-to none}"
if [[ $(id -u) = 0 ]]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
export OMPI_MCA_odls_base_sigkill_timeout=${OMPI_MCA_odls_base_sigkill_timeout:-0} # the rest goes at once
if [[ -z $work ]]; then
    work=$(mktemp -d "${TMPDIR:-/tmp}/paligrid-kill.XXXXXX")
    trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"

# ---- the data set and the undisturbed run ----
rm -rf "$work/pictures"
mkdir "$work/pictures"
mapfile -t demo < <(find "$IMAGES" -maxdepth 1 -type f | sort)
for ((i = 0; i < records; i++)); do
    picture=${demo[i % ${#demo[@]}]}
    ln -s "$picture" "$work/pictures/$(printf %05d "$i")_${picture##*/}"
done

arguments=(batch --model "$MODEL" --input "$work/pictures" --prompt "caption en" --threads 1 --sync 0.02 --progress 0
    --log-level warn)
start() { # RANKS TP OUT
    local launch=()
    (($1 == 1)) || launch=("${mpirun[@]}" -np "$1")
    exec "${launch[@]}" "$PALIGRID" "${arguments[@]}" --tp "$2" --batch $((1 + RANDOM % 8)) -o "$3" >>"$work/log" 2>&1 </dev/null
}

RANDOM=$seed
: >"$work/log"
rm -rf "$work/whole"
begin=$(date +%s%N)
(start 1 1 "$work/whole") || { tail "$work/log" >&2; echo "the undisturbed run failed" >&2; exit 1; }
whole_ms=$((($(date +%s%N) - begin) / 1000000))

# ---- one start ----
shapes=("1 1" "2 1" "2 2" "3 1" "4 2" "4 1")
pick_shape() {
    read -r ranks tp <<<"${shapes[RANDOM % ${#shapes[@]}]}"
}

children_of() { # PID: the ranks below mpirun, or the program itself
    local found
    mapfile -t found < <(pgrep -x -P "$1" paligrid || true)
    if ((${#found[@]} > 0)); then
        printf '%s\n' "${found[@]}"
    elif [[ -d /proc/$1 ]]; then
        echo "$1"
    fi
}

# A launcher may wait for ever for a rank that was killed while MPI started: then it goes, too.
wait_for_end() { # PID: its exit status
    local ticks status=0
    for ((ticks = 0; ticks < 300; ticks++)); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    if ((ticks == 300)); then
        echo "round $rounds: the launcher did not end by itself" >>"$work/log"
        mapfile -t left < <(children_of "$1")
        kill -KILL "${left[@]}" "$1" 2>/dev/null || true
    fi
    wait "$1" 2>/dev/null || status=$?
    return "$status"
}

kill_at_random() { # after a part of the undisturbed run's time; the start of MPI counts, too
    local pid delay_ms=$((RANDOM * (whole_ms + 1500) / 32768)) victims
    pick_shape
    (start "$ranks" "$tp" "$work/out") &
    pid=$!
    sleep "$(printf '%d.%03d' $((delay_ms / 1000)) $((delay_ms % 1000)))"
    mapfile -t victims < <(children_of "$pid")
    if ((${#victims[@]} > 0)) && kill -KILL "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null; then
        kills=$((kills + 1))
    fi
    wait_for_end "$pid" || true
}

kill_at_moment() { # MOMENT N: of rank 0, but for what leaders do
    local pid rank=0 status=0
    pick_shape
    [[ $1 = after_answer ]] && rank=$(((RANDOM % (ranks / tp)) * tp))
    (export PALIGRID_FAULT="$1:$2:$rank" && start "$ranks" "$tp" "$work/out") &
    pid=$!
    wait_for_end "$pid" || status=$?
    ((status == 0)) || kills=$((kills + 1))
}

# ---- rounds ----
exec 3>&2 2>>"$work/log" # the shell tells of every killed child
rounds=0 kills=0 starts=0 lost=0 doubled=0 different=0 unfinished=0

check_round() { # NAME
    local indices n_unique
    if ! cmp -s "$work/whole/results.jsonl" "$work/out/results.jsonl"; then
        different=$((different + 1))
        echo "round $rounds ($1): results.jsonl differs" >&3
    fi
    # A journal line is a record's when it has an index; bad lines were cut or skipped and done again.
    indices=$(cat "$work"/out/journal/*.jsonl | grep -o '^{"index":[0-9]*' | sort || true)
    n_unique=$(sort -u <<<"$indices" | wc -l)
    ((n_unique == records)) || lost=$((lost + records - n_unique))
    doubled=$((doubled + $(wc -l <<<"$indices") - n_unique))
}

go_on() { # until complete; the first two starts may be killed, too
    local attempt status
    for ((attempt = 0; attempt < 8; attempt++)); do
        if ((attempt < 2 && RANDOM % 2)); then
            kill_at_random
        else
            pick_shape
            status=0
            (start "$ranks" "$tp" "$work/out") &
            wait_for_end $! || status=$?
            starts=$((starts + 1))
            ((status != 0)) || return 0
            echo "round $rounds: the command to go on ended with $status" >&3
        fi
    done
    unfinished=$((unfinished + 1))
}

round() { # NAME COMMAND...
    local name=$1
    shift
    rounds=$((rounds + 1))
    rm -rf "$work/out"
    "$@"
    go_on
    check_round "$name"
}

named=("lock_taken 1" "segment_created 1" "before_write 1" "mid_write 1" "after_write 1" "after_sync 1" "before_write 3"
    "mid_write 3" "after_write 3" "after_sync 3" "mid_write 7" "after_sync 7" "after_deal 1" "after_deal 20" "after_deal 59"
    "after_answer 1" "after_answer 7" "mid_gather 1" "mid_gather 17" "mid_gather 59" "before_pack 1"
    "before_rename 1" "after_rename 1" "before_rename 2" "after_rename 2" "before_rename 3" "after_rename 3"
    "before_rename 4" "after_rename 5" "before_rename 6")
for ((i = 0; i < moments && i < ${#named[@]}; i++)); do
    read -r moment n <<<"${named[i]}"
    round "$moment:$n" kill_at_moment "$moment" "$n"
done
for ((i = 0; i < random; i++)); do
    round random kill_at_random
done

echo "$rounds rounds, $kills kills, $records records each: $lost lost, $doubled doubled, $different results that differ," \
    "$unfinished unfinished"
((lost == 0 && doubled == 0 && different == 0 && unfinished == 0))
