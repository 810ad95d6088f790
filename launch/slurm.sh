#!/usr/bin/env bash
# Starts a program on all tasks of the Slurm job that it is called in; the batch files of slurm/ end in it:
#   launch/slurm.sh -- paligrid batch --model DIR --input SRC --output-path OUT
# How many ranks, threads, GPUs and how long, the job says (sbatch's options); nothing is set twice.
#
# What is added, and why:
#   srun --mpi=pmix     without PMIx each task would be a program of its own; refused when Slurm has none
#   -K                  a rank that dies ends the step at once
#   --deadline          for `paligrid batch`: what is left of the job's time, less a reserve
#                       (RESERVE seconds, 60, but at most a quarter), unless it is given
#   --cpus-per-task     srun does not take it over from sbatch (since 22.05)
#   tasks > CPUs        waiting ranks give way; without that an exchange may take milliseconds
#   exit status 75      the program stopped early and goes on when started again: the job is requeued,
#                       at most MAX_RESTARTS (100) times. Any other status ends the job.
#   exit status 139     within CRASH_SECONDS (20) of the start: Open MPI 4.1 crashed while its ranks were
#                       meeting, before the program did anything; it is started again, at most twice
set -euo pipefail

# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
    print_manual
    cat <<'TEXT'
Usage: launch/slurm.sh [--no-requeue] [--dry-run] -- PROGRAM ARGS...
  --no-requeue   pass status 75 on and leave the job alone
  --dry-run      print the command line and start nothing
Variables: LAUNCHER=mpirun (Open MPI's, inside the allocation: for a Slurm without PMIx; --signal does not
reach all ranks then, --deadline does), CPU_BIND (cores), CRASH_SECONDS, RESERVE, MAX_RESTARTS, SRUN_ARGS, PALIGRID (the program)
TEXT
}

# The largest number of "2(x3),1".
most_tasks_per_node() {
    tr ',' '\n' <<<"${SLURM_TASKS_PER_NODE:-1}" | sed 's/(.*//' | sort -n | tail -n 1
}

check_pmix() {
    local known
    known=$(srun --mpi=list 2>&1) || true
    grep -qw pmix <<<"${known//pmix_v/ pmix }" && return 0
    echo "$LAUNCH_NAME: this Slurm cannot start MPI ranks: srun --mpi=list has no pmix, only:" \
        "$(tail -n +2 <<<"$known" | xargs)" >&2
    echo "$LAUNCH_NAME: fix: have Slurm's PMIx plugin installed (mpi_pmix.so; Debian: slurm-wlm-basic-plugins)," \
        "or submit with LAUNCHER=mpirun, which needs none" >&2
    exit 78
}

# How long the program may run, in seconds; empty: no limit.
time_left() {
    local job=$SLURM_JOB_ID end left reserve=${RESERVE:-60}
    [[ -z ${SLURM_ARRAY_TASK_ID:-} ]] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    end=$(squeue -h -j "$job" -o %e 2>/dev/null) || return 0
    [[ $end =~ ^[0-9]{4}- ]] || return 0
    left=$(($(date -d "$end" +%s) - $(date +%s)))
    ((reserve <= left / 4)) || reserve=$((left / 4))
    echo $((left > reserve ? left - reserve : 1))
}

add_deadline() { # ARGS of the program; extends `arguments`
    local word seconds
    [[ ${1:-} = batch ]] || return 0
    for word in "$@"; do
        [[ $word != --deadline && $word != --deadline=* ]] || return 0
    done
    seconds=$(time_left)
    [[ -z $seconds ]] || arguments+=(--deadline "$seconds")
}

# Tasks that share a GPU: as few as possible.
add_gpus() {
    local tasks=$1
    [[ ${SLURM_GPUS_ON_NODE:-} =~ ^[1-9][0-9]*$ && -z ${SLURM_GPU_BIND:-} ]] || return 0
    command+=("--gpu-bind=single:$(((tasks + SLURM_GPUS_ON_NODE - 1) / SLURM_GPUS_ON_NODE))")
}

with_srun() {
    local tasks more
    tasks=$(most_tasks_per_node)
    check_pmix
    command=(srun --mpi=pmix -K "--cpu-bind=${CPU_BIND:-cores}")
    [[ -z ${SLURM_CPUS_PER_TASK:-} ]] || command+=("--cpus-per-task=$SLURM_CPUS_PER_TASK")
    if ((tasks * ${SLURM_CPUS_PER_TASK:-1} > ${SLURM_CPUS_ON_NODE:-1})); then
        offer OMPI_MCA_mpi_yield_when_idle 1
        command+=(--overcommit)
    fi
    add_gpus "$tasks"
    if [[ -n ${SRUN_ARGS:-} ]]; then
        read -r -a more <<<"$SRUN_ARGS"
        command+=("${more[@]}")
    fi
}

# It starts its daemons by srun, which needs no PMIx.
with_mpirun() {
    command -v mpirun >/dev/null || refuse "mpirun not found"
    is_open_mpi mpirun || refuse "LAUNCHER=mpirun: only Open MPI's is known here"
    offer_root
    command=(mpirun -n "${SLURM_NTASKS:-1}" --mca oob_tcp_keepalive_time 10
        --mca oob_tcp_keepalive_intvl 3 --mca oob_tcp_keepalive_probes 3)
}

requeue() {
    if ((${SLURM_RESTART_COUNT:-0} >= ${MAX_RESTARTS:-100})); then
        echo "$LAUNCH_NAME: stopped early; not requeued again after $SLURM_RESTART_COUNT restarts (MAX_RESTARTS)" >&2
        return
    fi
    echo "$LAUNCH_NAME: stopped early; the job is requeued and goes on (restarts so far: ${SLURM_RESTART_COUNT:-0})" >&2
    if scontrol requeue "$SLURM_JOB_ID"; then
        sleep 120 # Slurm ends this script
    else
        echo "$LAUNCH_NAME: it could not be requeued; submit it again with the same arguments" >&2
    fi
}

# Leaves `status`.
run_command() {
    local next began
    for next in again again no; do
        began=$SECONDS status=0
        "${command[@]}" || status=$?
        ((status == 139 && SECONDS - began <= ${CRASH_SECONDS:-20})) || return 0
        [[ $next = no ]] || echo "$LAUNCH_NAME: crashed while starting (status 139); it is started again" >&2
    done
}

may_requeue=yes
while (($# > 0)); do
    case $1 in
    --no-requeue) may_requeue=no ;;
    *)
        common_option "$1" || {
            shift
            break
        }
        ;;
    esac
    shift
done
(($# > 0)) || refuse "no program given: launch/slurm.sh -- paligrid batch ..."
[[ -n ${SLURM_JOB_ID:-} ]] || refuse "not inside a Slurm job: sbatch slurm/caption.sbatch ..., or salloc first"
find_program "$1"
shift
arguments=("$@")
[[ ${program##*/} != paligrid ]] || add_deadline "$@"

case ${LAUNCHER:-srun} in
srun) with_srun ;;
mpirun) with_mpirun ;;
*) refuse "LAUNCHER is srun or mpirun" ;;
esac
command+=("$program" "${arguments[@]}")
if [[ $dry_run = yes ]]; then
    start_or_show yes
fi
((${#environment[@]} == 0)) || export "${environment[@]}"
trap : TERM USR1 # meant for the ranks, which get them, too; this script waits for their end
run_command
((status != 75)) || [[ $may_requeue = no ]] || requeue
exit "$status"
