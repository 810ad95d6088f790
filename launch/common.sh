# shellcheck shell=bash
# What the start scripts of this folder have in common; sourced, never started.
#
# A script fills `command`, and `environment` through offer(), and ends in start_or_show. What the user
# has set in the environment is never overridden.
# shellcheck disable=SC2034 # the arrays belong to the sourcing script, too

environment=() command=() dry_run=no
LAUNCH_NAME=launch/$(basename "$0")
LAUNCH_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

refuse() { # MESSAGE...: the command line or the machine is not fit for this; exit status of usage
    echo "$LAUNCH_NAME: $*" >&2
    exit 64
}

# The comment on top of the script is its manual.
print_manual() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
}

# False at `--`: the program comes next.
common_option() { # WORD: one of the options that every script has
    case $1 in
    --dry-run) dry_run=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    --) return 1 ;;
    *) refuse "unknown option $1 (try --help); the program comes after --" ;;
    esac
}

offer() { # NAME VALUE: only where the user has not chosen
    [[ -n ${!1+set} ]] || environment+=("$1=$2")
}

is_count() { # TEXT
    [[ $1 =~ ^[1-9][0-9]{0,5}$ ]]
}

# Cores, not hardware threads, among those this process may use: a rank per thread is slower.
count_cores() {
    local cores=0 cpus
    cpus=$(nproc)
    if command -v lscpu >/dev/null; then
        cores=$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l) || cores=0
    fi
    if ((cores < 1 || cores > cpus)); then
        cores=$cpus
    fi
    echo "$cores"
}

# `paligrid` is the program of this checkout, else the one in PATH; any other name stays as it is.
find_program() { # NAME: leaves it in `program`
    program=$1
    [[ $program = paligrid ]] || return 0
    program=${PALIGRID:-$LAUNCH_ROOT/build/release/paligrid}
    if [[ -z ${PALIGRID:-} && ! -x $program ]]; then
        program=$(command -v paligrid) ||
            refuse "paligrid is neither in $LAUNCH_ROOT/build/release (run make) nor in PATH"
    fi
}

is_open_mpi() { # MPIRUN
    "$1" --version 2>/dev/null | grep -qiE 'open mpi|open-?rte|prte'
}

# Open MPI's mpirun wants to be asked twice by root; Open MPI 5 under other names.
offer_root() {
    [[ $(id -u) = 0 ]] || return 0
    offer OMPI_ALLOW_RUN_AS_ROOT 1
    offer OMPI_ALLOW_RUN_AS_ROOT_CONFIRM 1
    offer PRTE_ALLOW_RUN_AS_ROOT 1
    offer PRTE_ALLOW_RUN_AS_ROOT_CONFIRM 1
}

start_or_show() { # yes: show the command line, start nothing
    ((${#environment[@]} == 0)) || command=(env "${environment[@]}" "${command[@]}")
    if [[ $1 = yes ]]; then
        printf '%q ' "${command[@]}"
        echo
        exit 0
    fi
    exec "${command[@]}"
}
