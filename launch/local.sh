#!/usr/bin/env bash
# Starts a program on N ranks of this host, with the settings that mpirun needs here:
#   launch/local.sh -n 4 -- paligrid run --model demo/model --prompt "caption en" demo/images/01.png
# `paligrid` without a path is the program of this checkout, else the one in PATH; any other program
# is started as it is written.
#
# What is added, and when (everything can be overridden by the variable or option named):
#   root:                 OMPI_ALLOW_RUN_AS_ROOT and ..._CONFIRM, which Open MPI asks for
#   ranks =  cores:       one core per rank, --bind-to core              BIND=core|none|...
#                         (two such runs at a time would sit on the same cores: use BIND=none)
#   ranks <  cores:       no binding: mpirun would leave cores idle, paligrid divides them itself
#   ranks >  cores:       --oversubscribe, no binding, and waiting ranks give way (without that,
#                         an exchange may take milliseconds): OMPI_MCA_mpi_yield_when_idle=1
#   one rank:             no mpirun at all                               MPIRUN=... forces it
# With another MPI than Open MPI, mpirun gets -n N only; add what it needs through MPIRUN_ARGS.
set -euo pipefail

# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
    print_manual
    echo "Usage: launch/local.sh [-n N] [--dry-run] -- PROGRAM ARGS..."
    echo "  -n N        ranks; default RANKS, else the number of cores"
    echo "  --dry-run   print the command line and start nothing"
    echo "Variables: RANKS, CORES, MPIRUN (mpirun), MPIRUN_ARGS, BIND, PALIGRID (the program)"
}

ranks=${RANKS:-}
while (($# > 0)); do
    case $1 in
    -n)
        (($# > 1)) || refuse "-n needs a number"
        ranks=$2
        shift
        ;;
    *)
        common_option "$1" || {
            shift
            break
        }
        ;;
    esac
    shift
done
(($# > 0)) || refuse "no program given: launch/local.sh -n 2 -- paligrid run ..."

cores=${CORES:-$(count_cores)}
ranks=${ranks:-$cores}
is_count "$ranks" || refuse "-n $ranks is not a number of ranks"
find_program "$1"
shift

if ((ranks > 1)) || [[ -n ${MPIRUN:-} ]]; then
    read -r -a command <<<"${MPIRUN:-mpirun}"
    command -v "${command[0]}" >/dev/null || refuse "${command[0]} not found: install MPI, or set MPIRUN"
    if is_open_mpi "${command[0]}"; then
        offer_root
        if ((ranks > cores)); then
            offer OMPI_MCA_mpi_yield_when_idle 1
            command+=(--oversubscribe --bind-to "${BIND:-none}")
        elif ((ranks < cores)); then
            command+=(--bind-to "${BIND:-none}")
        else
            command+=(--bind-to "${BIND:-core}")
        fi
    fi
    if [[ -n ${MPIRUN_ARGS:-} ]]; then
        read -r -a more <<<"$MPIRUN_ARGS"
        command+=("${more[@]}")
    fi
    command+=(-n "$ranks")
fi
command+=("$program" "$@")
start_or_show "$dry_run"
