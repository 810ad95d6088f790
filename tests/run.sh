#!/usr/bin/env bash
# Runs the tests: run.sh [--quick] [--list] [PATTERN...]. Called by make check, test and asan.
#
# A test is tests/<kind>/test_*.c (its program lies in build/<variant>/tests/<kind>/) or an
# executable tests/<kind>/test_*.sh or test_*.py. Its first five lines may say
#   // RANKS: 1 2 4     a C program runs once per number under mpirun; only "1": without mpirun.
#                       A script (# RANKS: ...) runs once per number, not under mpirun: it starts
#                       the program itself, with $LAUNCH before it.
#   // TIMEOUT: 600     seconds, instead of 300
#   // SLOW             left out by --quick
#   // WAITS            mostly waits, for daemons or deadlines: without PATTERNs these tests run one
#                       after the other beside the rest, and their lines come last (LANES=1: no)
# Exit status 77 means skipped; the last line of output is the reason. PATTERNs are parts of paths.
# Scripts find: PALIGRID (the program), RANKS, LAUNCH ("" or "mpirun ... -np N"), MPIRUN (without
# -np), PALIGRID_BUILD (build/<variant>), TEST_TMP (an empty folder, removed afterwards), PYTHON.
# Ends with the slowest tests and the line `N passed, N failed, N skipped`; the exit status is 0 only
# without failures.
set -euo pipefail
cd "$(dirname "$0")/.."

VARIANT=${VARIANT:-release}
BUILD_DIR=${BUILD:-build}/$VARIANT
PYTHON=${PYTHON:-/usr/bin/python3}
BUILT=${BUILT:-yes} # "no" when make could not build everything
TIMEOUT=${TIMEOUT:-300}
LANES=${LANES:-2}
LOGS=$BUILD_DIR/test-logs
PALIGRID_BUILD=$(realpath -m "$BUILD_DIR")
PALIGRID=$PALIGRID_BUILD/paligrid
export VARIANT PALIGRID_BUILD PYTHON PALIGRID

quick=no list=no patterns=()
for arg in "$@"; do
    case $arg in
    --quick) quick=yes ;;
    --list) list=yes ;;
    -*)
        echo "usage: tests/run.sh [--quick] [--list] [PATTERN...]" >&2
        exit 64
        ;;
    *) patterns+=("$arg") ;;
    esac
done

# ---- launcher ----
set_env() { # NAME VALUE: only where the user has not chosen
    if [[ -z ${!1+set} ]]; then
        export "$1=$2"
        echo "export $1=$2"
    fi
}
MPIRUN=${MPIRUN:-mpirun}
if [[ $list = no ]] && mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    [[ $MPIRUN = mpirun ]] && MPIRUN="mpirun --oversubscribe --bind-to none"
    if [[ $(id -u) = 0 ]]; then
        set_env OMPI_ALLOW_RUN_AS_ROOT 1
        set_env OMPI_ALLOW_RUN_AS_ROOT_CONFIRM 1
    fi
    set_env OMPI_MCA_mpi_yield_when_idle 1 # more ranks than cores: waiting ranks must give way
    set_env OMPI_MCA_btl_vader_single_copy_mechanism none # containers often forbid it, loudly
fi
if [[ $VARIANT = asan ]]; then
    # use_tls=0: the leak check sometimes (1 of 160 runs) crashes in thread-local memory of a message
    # library's thread that is just ending.
    lsan="suppressions=$PWD/tests/lsan.supp:print_suppressions=0:fast_unwind_on_malloc=0:use_tls=0"
    set_env LSAN_OPTIONS "$lsan"
    # A finding ends a process by a signal, as a crash would: helper processes are judged by that.
    set_env ASAN_OPTIONS abort_on_error=1
    set_env UBSAN_OPTIONS abort_on_error=1:print_stacktrace=1
    TIMEOUT=$((TIMEOUT * 3))
fi
export MPIRUN

# ---- one test ----
# A line per outcome, from both lanes: passed, failed, skipped or within; milliseconds; what it is of.
# They are this run's own: another run in the same build folder must not change the count.
OWN=$(mktemp -d "${TMPDIR:-/tmp}/paligrid-run.XXXXXX")
RESULTS=$OWN/results.tsv
trap 'rm -rf "$OWN"' EXIT
record() { # OUTCOME MS LINE
    printf '%s\t%s\t%s\n' "$@" >>"$RESULTS"
}
n_of() { # OUTCOME
    cut -f 1 "$RESULTS" | grep -cx "$1" || true
}

head_value() { # FILE KEY: the text after "KEY:" in the first five lines
    sed -n "1,5s@^\(//\|#\) *$2: *\([^*]*\).*@\2@p" "$1" | head -n 1
}

count() { # STATUS LOG LINE MS
    local status=$1 log=$2 line=$3 ms=$4
    local took=$((ms / 1000)).$(((ms % 1000) / 100))
    # A cmocka test may skip some of its cases and pass; they are told, too.
    local cases
    cases=$(sed -n 's/^\[  SKIPPED \] \([A-Za-z_][A-Za-z0-9_]*\)$/\1/p' "$log" | sort -u | tr '\n' ' ')
    case $status in
    0)
        record passed "$ms" "$line"
        echo "ok (${took} s)"
        [[ -z $cases ]] || record within 0 "within $line: $cases"
        ;;
    77)
        record skipped "$ms" "$line: $(tail -n 1 "$log")"
        echo "skipped: $(tail -n 1 "$log")"
        ;;
    *)
        record failed "$ms" "$line"
        case $status in
        124 | 137) echo "FAILED (timed out after ${took} s)" ;;
        *) echo "FAILED (exit status $status, ${took} s)" ;;
        esac
        sed 's/^/    | /' "$log" | tail -n 60
        ;;
    esac
}

run_once() { # NAME SECONDS COMMAND...
    local log=$LOGS/${1//\//-}.log limit=$2 status=0 start line
    shift 2
    line="$*"
    printf '%s ... ' "$line"
    TEST_TMP=$(mktemp -d "${TMPDIR:-/tmp}/paligrid-test.XXXXXX")
    export TEST_TMP
    start=$(date +%s%N)
    timeout -k 10 "$limit" "$@" >"$log" 2>&1 </dev/null || status=$?
    local ms=$((($(date +%s%N) - start) / 1000000))
    rm -rf "$TEST_TMP"
    count "$status" "$log" "$line" "$ms"
}

run_program() { # SOURCE SECONDS RANKS...
    local source=$1 limit=$2 program
    shift 2
    program=$BUILD_DIR/${source%.c}
    if [[ ! -x $program ]]; then
        record failed 0 "$program: was not built"
        echo "$program ... FAILED (was not built)"
        return
    fi
    if [[ $* = 1 ]]; then
        run_once "${source%.c}" "$limit" "$program"
        return
    fi
    local n
    for n in "$@"; do
        # shellcheck disable=SC2086 # MPIRUN is a command with options
        run_once "${source%.c}-$n" "$limit" $MPIRUN -np "$n" "$program"
    done
}

run_script() { # SCRIPT SECONDS RANKS...
    local script=$1 limit=$2 n
    shift 2
    local command=("./$script")
    [[ $script = *.py ]] && command=("$PYTHON" "$script")
    for n in "$@"; do
        export RANKS=$n LAUNCH=""
        if [[ $n = 1 ]]; then
            run_once "$script" "$limit" "${command[@]}"
        else
            LAUNCH="$MPIRUN -np $n"
            run_once "$script-$n" "$limit" env RANKS="$n" "${command[@]}"
        fi
    done
}

wanted() { # FILE
    local p
    [[ $quick = yes ]] && sed -n 1,5p "$1" | grep -qE '^(//|#) *SLOW' && return 1
    [[ ${#patterns[@]} = 0 ]] && return 0
    for p in "${patterns[@]}"; do
        [[ $1 = *"$p"* ]] && return 0
    done
    return 1
}

# ---- all tests, one process first ----
waits() { # FILE
    sed -n 1,5p "$1" | grep -qE '^(//|#) *WAITS'
}

run_lane() { # main|waits|both
    local file ranks limit
    while read -r file; do
        wanted "$file" || continue
        case $1 in
        main) ! waits "$file" || continue ;;
        waits) waits "$file" || continue ;;
        esac
        ranks=$(head_value "$file" RANKS)
        limit=$(head_value "$file" TIMEOUT)
        if [[ $list = yes ]]; then
            echo "$file (ranks ${ranks:-1})"
            continue
        fi
        limit=${limit:-$TIMEOUT}
        # shellcheck disable=SC2086 # RANKS is a list
        case $file in
        *.c) run_program "$file" "$limit" ${ranks:-1} ;;
        *) run_script "$file" "$limit" ${ranks:-1} ;;
        esac
    done < <(for kind in unit contract mpi golden hosts slurm; do
        find "tests/$kind" -name 'test_*.c' -o -name 'test_*.sh' -perm -u+x -o -name 'test_*.py' -perm -u+x | sort
    done)
}

mkdir -p "$LOGS"
if [[ $list = yes ]]; then
    run_lane both
    exit 0
fi
: >"$RESULTS"
if [[ $LANES = 1 || ${#patterns[@]} != 0 ]]; then
    run_lane both
else
    run_lane waits >"$OWN/lane.log" 2>&1 &
    lane=$!
    # A lane ignores an interrupt from the keyboard, so it ends with this shell, and its test with it.
    trap 'kill "$lane" $(pgrep -P "$lane") 2>/dev/null || true; rm -rf "$OWN"' EXIT
    run_lane main
    wait "$lane" || record failed 0 "the lane of tests that wait"
    trap 'rm -rf "$OWN"' EXIT
    cat "$OWN/lane.log"
fi

[[ $BUILT = yes ]] || record failed 0 "make could not build everything; results may be older than the sources"
echo "the slowest:"
sort -t $'\t' -k 2,2nr "$RESULTS" | head -n 10 | awk -F '\t' '{ printf "%8.1f s  %s\n", $2 / 1000, $3 }'
awk -F '\t' '$1 == "skipped" || $1 == "within" { print "skipped: " $3 }' "$RESULTS"
awk -F '\t' '$1 == "failed" { print "failed: " $3 }' "$RESULTS"
failed=$(n_of failed)
echo "$(n_of passed) passed, $failed failed, $(n_of skipped) skipped"
[[ $failed = 0 ]]
