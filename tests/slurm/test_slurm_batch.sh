#!/usr/bin/env bash
# RANKS: 1
# SLOW: a Slurm cluster with its time limits
# TIMEOUT: 600
# WAITS
# The batch files of slurm/ on a real Slurm of four pretended nodes: a data set over three of them;
# the time limit, a requeue, a node that is lost; an array of jobs that share a data set; a Slurm
# without PMIx; a benchmark. Whatever happens, the results are to the byte those of one process.
# Settings: PALIGRID (build/release/paligrid).
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/slurm/box.sh
. tests/slurm/box.sh

# shellcheck source=tests/hosts/hosts_case.sh
. tests/hosts/hosts_case.sh

case_begin "$(box_missing)" box_stop
make_input 5
reference
box_start "$tmp/box" 4 2
submit() { # NAME NODES SBATCH-OPTIONS... -- [FILE ARGS...]: leaves job; the log is $tmp/NAME.log
    local name=$1 nodes=$2 options=()
    shift 2
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    [[ $# = 0 ]] || set -- "$@" "${batch[@]}" --output-path "$tmp/$name"
    job=$(box_run sbatch --parsable -N "$nodes" --ntasks-per-node=1 --cpus-per-task=1 \
        -o "$tmp/$name.log" "${options[@]}" "$@")
}
slow() { # RATE|none
    local i
    for i in 0 1 2 3; do hosts_shape "n$i" "$1"; done
}
under_way() { # NAME
    hosts_await 60 has_records "$tmp/$1" || says "some records" "$tmp/$1.log"
}
restarted() {
    equal "$(box_field "$job" Restarts)" 1
}
ended() { # SECONDS STATE
    box_await_job "$job" "$1" COMPLETED\|FAILED\|TIMEOUT\|NODE_FAIL\|CANCELLED\|OUT_OF_MEMORY || return 1
    equal "$(box_field "$job" JobState)" "$2"
}

# ---- three nodes ----
submit plain 3 -- slurm/caption.sbatch
check "a job on three nodes ends" ended 60 COMPLETED
check "with the results of one process" same_results "$tmp/plain"
check "by three replicas" says "replicas=3 tp=1" "$tmp/plain.log"

# ---- the time limit; one model over three nodes, and a network that makes it last ----
slow 20mbit
submit limit 3 -t 1 --signal=USR1@40 -- slurm/caption.sbatch --tp 3
check "it is under way" under_way limit
check "it stops before its time limit and is requeued" hosts_await 70 says "the job is requeued" "$tmp/limit.log"
slow none
check "it goes on" ended 90 COMPLETED
check "once" restarted
check "and says so" says "journal: .* starts_before=1 done=[1-9]" "$tmp/limit.log"
check "the results are the same" same_results "$tmp/limit"

# ---- requeued by an administrator, at any moment ----
slow 20mbit
submit requeued 3 -- slurm/caption.sbatch --tp 3
check "it is under way" under_way requeued
sleep "0.$((RANDOM % 10))"
box_run scontrol requeue "$job"
slow none
check "a requeued job ends" ended 90 COMPLETED
check "it was restarted" restarted
check "the results are the same" same_results "$tmp/requeued"

# ---- a node is lost ----
slow 20mbit
submit lost 3 -- slurm/caption.sbatch --tp 3
check "it is under way" under_way lost
box_kill_daemon n1
check "Slurm gives the node up and requeues" hosts_await 60 restarted
slow none
check "a job whose node is lost ends" ended 120 COMPLETED
check "the results are the same" same_results "$tmp/lost"

# ---- three jobs that share a data set ----
slow none
SHARDS=4 submit shared 1 --array=0-2 -o "$tmp/shared.%a.log" -- slurm/caption_array.sbatch
nothing_is_queued() { [[ -z $(box_run squeue -h) ]]; }
check "an array of three ends" hosts_await 90 nothing_is_queued
for task in 0 1 2; do
    check "task $task is done" equal "$(box_field "${job}_$task" JobState)" COMPLETED
done
check "the last one packs the same results" same_results "$tmp/shared"
check "each shard was claimed once" equal \
    "$(cd "$tmp/shared/journal" && echo *.jsonl)" "$(echo 00{1..4}001.jsonl)"

# ---- a Slurm without PMIx ----
mkdir "$tmp/plugins"
for plugin in "$(dirname "$(find /usr/lib* -name mpi_pmix.so 2>/dev/null | head -n 1)")"/*.so; do
    [[ $plugin = *mpi_pmix* ]] || ln -s "$plugin" "$tmp/plugins/"
done
sed "\$a PluginDir=$tmp/plugins" "$SLURM_CONF" >"$tmp/no_pmix.conf"
submit broken 2 --requeue --wrap "SLURM_CONF=$tmp/no_pmix.conf launch/slurm.sh -- paligrid batch" --
check "a Slurm without PMIx: the job fails" ended 60 FAILED
check "as a matter of configuration" equal "$(box_field "$job" ExitCode)" 78:0
check "not again and again" equal "$(box_field "$job" Restarts)" 0
check "what is missing is told" says "srun --mpi=list has no pmix, only: " "$tmp/broken.log"
check "and the fix" says "fix: have Slurm's PMIx plugin installed" "$tmp/broken.log"
submit direct 2 --wrap "srun --mpi=none $PALIGRID run --model demo/model -p x demo/images/01_one_112.png" --
check "srun without PMIx: the job fails" ended 60 FAILED
check "the program tells the fix, too" says 'use .srun --mpi=pmix' "$tmp/direct.log"
LAUNCHER=mpirun submit by_mpirun 3 -- slurm/caption.sbatch --tp 3
check "mpirun inside the allocation needs none" ended 60 COMPLETED
check "with the same results" same_results "$tmp/by_mpirun"

# ---- rank counts of one allocation ----
job=$(RANKS="1 2" box_run sbatch --parsable -N 2 --ntasks-per-node=1 --cpus-per-task=1 -o "$tmp/scaling.log" \
    slurm/scaling.sbatch --model synthetic:demo/model/config.json --phases decode -r 1 -t 1)
check "a scaling benchmark ends" ended 90 COMPLETED
check "with a row for each rank count" equal "$(grep -o '"ranks":[0-9]*' "$tmp/scaling.log" | xargs)" "ranks:1 ranks:2"

# Open MPI 4.1 may crash in MPI_Init when another rank is ahead: its TCP transport gets a message that nobody
# is ready for. Seen once in some forty starts on a busy machine; a backtrace without a frame of ours.
open_mpi_crashed() {
    grep -q "Signal: Segmentation fault" "$tmp"/*.log && ! grep -qE "/paligrid\(\+" "$tmp"/*.log
}
if ((failures > 0)) && open_mpi_crashed; then
    echo "Open MPI crashed while it started a job; what failed above may follow from that"
    exit 77
fi
verdict
