# shellcheck shell=bash
# A Slurm cluster in a box, for tests: munged, slurmctld and one slurmd for each pretended host
# (tests/hosts/hosts.sh), which Slurm and MPI take for real ones. Needs root; sourced.
#
#   box_missing             what is missing to do this here; empty: nothing
#   box_start DIR N CPUS    hosts n0 ... of CPUS processors each; SLURM_CONF is set. No subshell
#   box_run COMMAND...      on the login node: sbatch, squeue ...
#   box_field JOB FIELD     from scontrol show job: JobState, ExitCode, Restarts ...
#   box_await_job JOB SECONDS PATTERN   until its state matches; fails when it does not
#   box_kill_daemon NAME, box_start_daemon NAME    slurmd, while what it started runs on
#   box_stop
#
# What differs from a production cluster: seconds instead of minutes in its timeouts, a credential's
# life (which delays a requeued job by 121 s elsewhere), and no accounting.
# shellcheck source=tests/hosts/hosts.sh
. "$(dirname "${BASH_SOURCE[0]}")/../hosts/hosts.sh"

export PATH=$PATH:/usr/sbin:/sbin

box_missing() {
    local tool
    for tool in munged slurmctld slurmd sbatch srun; do
        command -v "$tool" >/dev/null || {
            echo "no $tool (packages slurmctld, slurmd, slurm-client, munge)"
            return
        }
    done
    hosts_missing
}

box_configuration() { # N CPUS
    local i
    cat <<EOT
ClusterName=box
SlurmctldHost=head($HOSTS_NET.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$BOX_DIR/munge/socket,cred_expire=5
StateSaveLocation=$BOX_DIR/state
SlurmdSpoolDir=$BOX_DIR/spool/%n
TmpFS=$BOX_DIR/tmp/%n
SlurmctldPidFile=$BOX_DIR/slurmctld.pid
SlurmdPidFile=$BOX_DIR/slurmd-%n.pid
SlurmctldLogFile=$BOX_DIR/slurmctld.log
SlurmdLogFile=$BOX_DIR/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=10000
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillOnBadExit=0
SlurmctldTimeout=10
SlurmdTimeout=6
MessageTimeout=5
TCPTimeout=2
KillWait=5
MinJobAge=300
EOT
    for ((i = 0; i < $1; i++)); do
        echo "NodeName=n$i NodeHostname=n$i NodeAddr=$HOSTS_NET.$((10 + i)) Port=17001 CPUs=$2 RealMemory=2000 State=UNKNOWN"
    done
    echo "PartitionName=main Nodes=ALL Default=YES DefaultTime=10 MaxTime=INFINITE OverTimeLimit=0 State=UP"
}

# Daemons on the head stay in the foreground and die with the shell that started them; those on hosts
# die with their host.
box_daemon() { # NAME COMMAND...
    local name=$1
    shift
    (cd / && exec setpriv --pdeathsig KILL "$@") </dev/null >"$BOX_DIR/$name.out" 2>&1 &
    echo $! >"$BOX_DIR/$name.daemon"
    disown
}

box_start_daemon() { # NAME
    mkdir -p "$BOX_DIR/tmp/$1" # files are shared here; real nodes have a /tmp each
    (cd / && hosts_on "$1" slurmd -N "$1" -f "$SLURM_CONF") || hosts_fail "slurmd on $1: $(tail -n 3 "$BOX_DIR/slurmd-$1.log")"
}

box_kill_daemon() { # NAME
    hosts_on "$1" kill -KILL "$(<"$BOX_DIR/slurmd-$1.pid")"
}

box_idle() { # N
    [[ $(box_run sinfo -h -N -o %t | grep -c '^idle$') = "$1" ]]
}

box_start() {
    local n=$2 cpus=$3 names=() i
    BOX_DIR=$(readlink -m "$1")
    export BOX_DIR SLURM_CONF=$BOX_DIR/slurm.conf
    for ((i = 0; i < n; i++)); do names+=("n$i"); done
    mkdir -p "$BOX_DIR"/{munge,state,spool}
    chmod 755 "$BOX_DIR" "$BOX_DIR/munge"
    head -c 128 /dev/urandom >"$BOX_DIR/munge/key"
    chmod 400 "$BOX_DIR/munge/key"
    hosts_start "$BOX_DIR/hosts" "${names[@]}"
    box_configuration "$n" "$cpus" >"$SLURM_CONF"
    box_daemon munged munged --foreground --force --key-file="$BOX_DIR/munge/key" \
        --socket="$BOX_DIR/munge/socket" --pid-file="$BOX_DIR/munge/pid" \
        --log-file="$BOX_DIR/munge/log" --seed-file="$BOX_DIR/munge/seed"
    hosts_await 10 test -S "$BOX_DIR/munge/socket" || hosts_fail "munged: $(<"$BOX_DIR/munged.out")"
    box_daemon slurmctld nsenter -t "$(hosts_pid head)" -n -u -m -- slurmctld -D -f "$SLURM_CONF"
    hosts_await 20 box_run scontrol ping || hosts_fail "slurmctld: $(tail -n 3 "$BOX_DIR/slurmctld.log")"
    for i in "${names[@]}"; do
        box_start_daemon "$i"
    done
    hosts_await 30 box_idle "$n" || hosts_fail "nodes are not idle: $(box_run sinfo -N -l)"
}

box_run() {
    hosts_on head "$@"
}

box_field() { # JOB FIELD: of an array, of its first task
    box_run scontrol show job "$1" 2>/dev/null | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1
}

box_await_job() { # JOB SECONDS PATTERN
    local turns=$(($2 * 4)) state
    until state=$(box_field "$1" JobState) && [[ $state =~ ^($3)$ ]]; do
        if ((turns-- <= 0)); then
            hosts_fail "job $1 is $state after $2 s, not $3"
            return 1
        fi
        sleep 0.25
    done
}

box_stop() {
    local name pid
    [[ -n ${BOX_DIR:-} ]] || return 0
    for name in slurmctld munged; do
        [[ -e $BOX_DIR/$name.daemon ]] || continue
        pid=$(<"$BOX_DIR/$name.daemon")
        kill -KILL "$pid" 2>/dev/null || true
        hosts_await 5 hosts_gone "$pid" || true
    done
    hosts_stop
    rm -rf "$BOX_DIR"
}
