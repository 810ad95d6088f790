#!/usr/bin/env bash
# RANKS: 1
# launch/slurm.sh: the command lines it makes in a pretended Slurm job, what it refuses, and what it does with
# the program's exit status. tests/slurm does the same with a real Slurm.
# shellcheck disable=SC2016 # lines for other shells
SCRIPT=launch/slurm.sh
# shellcheck source=tests/unit/launch_case.sh
. "$(dirname "$0")/launch_case.sh"
unset LAUNCHER RESERVE MAX_RESTARTS SRUN_ARGS CPU_BIND

job() { # COMMAND...: in a job of 3 nodes with 2 tasks each
    SLURM_JOB_ID=17 SLURM_NTASKS=6 SLURM_TASKS_PER_NODE='2(x3)' SLURM_CPUS_ON_NODE=8 "$@"
}
slurm() { # MPI PLUGINS, END TIME, EXIT STATUS: what srun, squeue and scontrol answer
    printf '#!/bin/sh\n[ "$1" != --mpi=list ] || { printf "MPI plugin types are...\\n%s\\n"; exit; }\nexit %s\n' "$1" "$3" >"$tmp/srun"
    printf '#!/bin/sh\necho "%s"\n' "$2" >"$tmp/squeue"
    printf '#!/bin/sh\necho "$*" >>"%s/requeued"\n' "$tmp" >"$tmp/scontrol"
    chmod +x "$tmp"/{srun,squeue,scontrol}
}
pretend sleep ""
slurm 'none\tpmix_v4\tpmi2' N/A 0
srun="srun --mpi=pmix -K --cpu-bind=cores"
same "no time limit" "$srun prog x" "$(job line -- prog x)"
same "threads" "$srun --cpus-per-task=4 prog" "$(SLURM_CPUS_PER_TASK=4 job line -- prog)"
same "more tasks than CPUs" "env OMPI_MCA_mpi_yield_when_idle=1 $srun --overcommit prog" \
    "$(SLURM_CPUS_PER_TASK=5 job line -- prog | sed 's/ --cpus-per-task=5//')"
same "a GPU for each task" "$srun --gpu-bind=single:1 prog" "$(SLURM_GPUS_ON_NODE=2 job line -- prog)"
same "tasks that share GPUs" "$srun --gpu-bind=single:2 prog" "$(SLURM_GPUS_ON_NODE=1 job line -- prog)"
same "the job's own binding stays" "$srun prog" "$(SLURM_GPU_BIND=x SLURM_GPUS_ON_NODE=2 job line -- prog)"
same "the user's additions" "srun --mpi=pmix -K --cpu-bind=none -l prog" "$(CPU_BIND=none SRUN_ARGS=-l job line -- prog)"

export PALIGRID=/opt/paligrid
slurm 'pmix' "$(date -d '+1000 seconds' +%FT%T)" 0
deadline() { job line -- paligrid "$@" | sed -n 's/.*--deadline[ =]\([0-9]*\).*/\1/p'; }
between() { # WHAT LEAST NUMBER MOST
    ((${3:-0} >= $2 && ${3:-0} <= $4)) || same "$1" "$2 to $4" "${3:-}"
}
between "the job's end less a minute" 930 "$(deadline batch -m x)" 940
between "another reserve" 890 "$(RESERVE=100 deadline batch)" 900
same "given ones stay" 5 "$(deadline batch --deadline 5)"
same "given ones stay, with =" 6 "$(deadline batch --deadline=6)"
same "other commands have none" "" "$(deadline run)"
slurm 'pmix' "$(date -d '+40 seconds' +%FT%T)" 0
between "a short job keeps a quarter" 25 "$(deadline batch)" 30
slurm 'pmix' "$(date -d '-5 seconds' +%FT%T)" 0
same "a job at its end" 1 "$(deadline batch)"

refused "not inside a Slurm job" -- prog
SLURM_JOB_ID=1 refused "no program given"
SLURM_JOB_ID=1 LAUNCHER=ssh refused "LAUNCHER is srun or mpirun" -- prog
slurm 'none\tpmi2' N/A 0
status=0
out=$(job launch/slurm.sh -- prog 2>&1) || status=$?
same "a Slurm without PMIx" 78 "$status"
holds "tells what there is" "no pmix, only: none pmi2" "$out"
holds "and the fix" "submit with LAUNCHER=mpirun" "$out"
pretend mpirun "mpirun (Open MPI) 4.1.4"
pretend id 1000
holds "mpirun needs none" "mpirun -n 6 --mca oob_tcp_keepalive_time 10" "$(LAUNCHER=mpirun job line -- prog)"

ended() { # STATUS ARGS...: leaves status and what was requeued
    slurm pmix N/A "$1"
    shift
    rm -f "$tmp/requeued"
    status=0
    job launch/slurm.sh "$@" -- prog 2>"$tmp/err" || status=$?
    requeued=$(cat "$tmp/requeued" 2>/dev/null || true)
}
ended 75
same "75 requeues" "75 requeue 17" "$status $requeued"
for code in 0 1 65 70 137 143; do
    ended "$code"
    same "$code does not" "$code " "$status $requeued"
done

# A start that crashes is tried again: srun counts its calls and crashes for the first n of them.
crashing() { # CRASHES, and the status after them
    slurm pmix N/A "$2"
    printf '#!/bin/sh\n[ "$1" != --mpi=list ] || { echo pmix; exit; }\necho x >>"%s/calls"\n[ "$(wc -l <"%s/calls")" -gt %s ] || exit 139\nexit %s\n' \
        "$tmp" "$tmp" "$1" "$2" >"$tmp/srun"
    rm -f "$tmp/calls"
    status=0
    job launch/slurm.sh -- prog 2>"$tmp/err" || status=$?
    calls=$(wc -l <"$tmp/calls")
}
crashing 1 0
same "one crash is made up for" "0 2" "$status $calls"
holds "and told" "crashed while starting" "$(cat "$tmp/err")"
crashing 2 1
same "two crashes" "1 3" "$status $calls"
crashing 9 0
same "no more than two more tries" "139 3" "$status $calls"
CRASH_SECONDS=-1 crashing 9 0
same "a crash later on stays one" "139 1" "$status $calls"

ended 75 --no-requeue
same "unless it shall not" "75 " "$status $requeued"
SLURM_RESTART_COUNT=100 ended 75
same "not for ever" "75 " "$status $requeued"
finish
