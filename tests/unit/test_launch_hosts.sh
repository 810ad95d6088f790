#!/usr/bin/env bash
# RANKS: 1
# launch/hosts.sh: the command lines it makes (--dry-run, pretended mpirun and machine), what it refuses, and
# how it looks after mpirun: exit status, signals, and an mpirun that does not return after an abort.
# Also launch/gpu_of_rank.sh.
# shellcheck disable=SC2016 # lines for other shells
SCRIPT=launch/hosts.sh
# shellcheck source=tests/unit/launch_case.sh
. "$(dirname "$0")/launch_case.sh"
export CORES=8 NUMA_NODES=2

pretend mpirun "mpirun (Open MPI) 4.1.4"
pretend id 1000
watch="--mca oob_tcp_keepalive_time 10 --mca oob_tcp_keepalive_intvl 3 --mca oob_tcp_keepalive_probes 3"
same "a rank for each NUMA node, cores shared" \
    "mpirun --host a:2\\,b:2 -n 4 --map-by slot:PE=4 --bind-to core $watch prog x" \
    "$(line --hosts a,b -- prog x)"
same "as many as asked for" \
    "mpirun --host a:8\\,b:8 -n 16 --map-by slot:PE=1 --bind-to core $watch prog" \
    "$(line --hosts a,b --per-host 8 -- prog)"
holds "more ranks than cores" \
    "-n 9 --map-by slot --bind-to none --oversubscribe --mca mpi_yield_when_idle 1 --mca oob" \
    "$(line --hosts a --per-host 9 -- prog)"
holds "more threads than cores" "-n 4 --map-by slot --bind-to none --mca oob" "$(line --hosts a,b --threads 5 -- prog)"
holds "NUMA nodes" "--map-by numa --bind-to numa" "$(line --hosts a --bind numa -- prog)"
holds "networks" "--mca btl_tcp_if_include ib0 --mca oob_tcp_if_include ib0" "$(line --hosts a --interface ib0 -- prog)"
holds "a lost host" "keepalive_time 3 --mca oob_tcp_keepalive_intvl 1 " "$(line --hosts a --lost-after 6 -- prog)"
holds "a time limit" "--timeout 60 " "$(line --hosts a --time-limit 60 -- prog)"
holds "an agent" "--mca plm_rsh_agent ssh\\ -q " "$(line --hosts a --agent 'ssh -q' -- prog)"
holds "GPUs" "/launch/gpu_of_rank.sh 4 prog" "$(line --hosts a --gpus 4 -- prog)"
holds "the user's libraries" "-x LD_LIBRARY_PATH prog" \
    "$(LD_LIBRARY_PATH=/l line --hosts a -- prog)"
printf '# ours\nn1 slots=4\n\n n9\nn2 # second\n' | sed '/n9/d' >"$tmp/hosts"
holds "a host file" "--host n1:2\\,n2:2 -n 4" "$(line --hostfile "$tmp/hosts" -- prog)"

refused "no hosts given" -- prog
refused "no program given" --hosts a
refused "'-x' is not the name of a host" --hosts a,-x -- prog
refused "named twice" --hosts a,b,a -- prog
refused "cannot read the host file" --hostfile "$tmp/none" -- prog
refused "--per-host 0" --hosts a --per-host 0 -- prog
refused "at least 4" --hosts a --lost-after 3 -- prog
refused "core, numa, socket or none" --hosts a --bind tight -- prog
refused "unknown option -n" --hosts a -n 3 -- prog
pretend mpirun "HYDRA build details: Version: 4.0.2"
refused "mpiexec -hosts a,... -ppn 2" --hosts a,b -- prog

# ---- an mpirun that runs, pretended ----
act() { # SHELL LINES...: what mpirun does
    printf '#!/bin/sh\n[ "$1" != --version ] || { echo "Open MPI"; exit; }\n%s\n' "$*" >"$tmp/mpirun"
}
start() { # leaves status, out, err
    status=0
    out=$(launch/hosts.sh --hosts a -- prog 2>"$tmp/err" <<<"in") || status=$?
    err=$(<"$tmp/err")
}
act 'read -r word; echo "<$word>"; echo "a word" >&2; exit 65'
start
same "status, input and both outputs" "65 <in> a word" "$status $out $err"
act 'trap "echo got; exit 75" USR1; while :; do sleep 0.1; done'
launch/hosts.sh --hosts a -- prog >"$tmp/signalled" 2>&1 &
pid=$!
sleep 1
kill -USR1 "$pid"
status=0
wait "$pid" || status=$?
same "a signal is passed on" "75 got" "$status $(<"$tmp/signalled")"
act 'echo "with errorcode 70." >&2; sleep 60 & echo $! >"'"$tmp"'/child"; wait'
start
same "an mpirun that does not return after an abort is ended" 70 "$status"
holds "that is told" "a host cannot be reached" "$err"
state=$(ps -o stat= -p "$(<"$tmp/child")" || echo Z)
same "its children are ended, too" Z "${state:0:1}"

# ---- GPUs ----
gpu() { launch/gpu_of_rank.sh 4 sh -c 'echo $CUDA_VISIBLE_DEVICES'; }
same "third rank of a host" 2 "$(OMPI_COMM_WORLD_LOCAL_RANK=2 gpu)"
same "more ranks than GPUs" 1 "$(SLURM_LOCALID=5 gpu)"
same "among those that are left to us" GPU-b "$(CUDA_VISIBLE_DEVICES=GPU-a,GPU-b MPI_LOCALRANKID=3 gpu)"
status=0
gpu >/dev/null 2>&1 || status=$?
same "without a launcher" 64 "$status"
finish
