#!/usr/bin/env bash
# Starts a program on ranks of several hosts with Open MPI's mpirun, without a batch system:
#   launch/hosts.sh --hosts node1,node2,node3 --per-host 4 -- paligrid batch --model DIR ...
# The program and all files are to lie under the same paths on every host, and the hosts are to be
# reachable by ssh without a password (or by what --agent names). Ranks fill host by host, so that a
# tensor-parallel group stays on one host as long as it fits.
#
# What is added, and why:
#   binding          per rank as many cores as there are to share, and threads to match. Ranks that
#                    move between sockets read their weights from the far one.
#   --lost-after     mpirun's own connections are watched; without that a host that vanishes
#                    silently (power, cable) leaves the job hanging for ever. The job ends that
#                    many seconds after, or when --comm-timeout of paligrid has passed, whichever
#                    comes first; either names the host.
#   --interface      for hosts with several networks: Open MPI would try all of them, and wait on
#                    one that leads nowhere.
#   ranks > cores    no binding, and ranks that wait give way
#   after an abort   mpirun waits for all hosts to confirm, and so for ever for one that is lost. It
#                    gets 3 seconds, then it is killed; what runs elsewhere notices and ends.
# The exit status is the program's. SIGTERM, SIGUSR1 and SIGUSR2 are passed on to mpirun, which hands
# the latter two to every rank.
set -euo pipefail

# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

usage() {
    print_manual
    cat <<'TEXT'
Usage: launch/hosts.sh --hosts LIST | --hostfile FILE [OPTIONS] -- PROGRAM ARGS...
  --hosts LIST      names, by commas
  --hostfile FILE   a name a line; # begins a comment
  --per-host N      ranks on each host; default: one for each NUMA node of this host
  --threads N       cores to bind a rank to, and so its threads; default: cores of this host / ranks per host
  --bind WHERE      core (default): cores of its own for each rank; numa, socket: the whole NUMA
                    node or socket; none
  --interface IF    networks (10.1.0.0/16) to talk over, or interfaces (ib0), if they are called
                    the same on all hosts and here
  --gpus N          N GPUs on each host: rank i of a host sees the (i modulo N)-th one only
  --lost-after S    end the job when a host was silent for S seconds (20)
  --time-limit S    end the job after S seconds
  --agent COMMAND   instead of ssh; called as COMMAND HOST WORDS...
  --dry-run         print the command line and start nothing
Variables: CORES, NUMA_NODES (of a host; default: this one's), MPIRUN (mpirun), MPIRUN_ARGS,
PALIGRID (the program)
TEXT
}

count_numa_nodes() {
    local nodes=0
    if command -v lscpu >/dev/null; then
        nodes=$(lscpu -p=NODE 2>/dev/null | grep -v '^#' | sort -u | wc -l) || nodes=0
    fi
    echo $((nodes > 0 ? nodes : 1))
}

hosts=() per_host="" threads="" bind=core interface="" gpus="" lost_after=20 time_limit="" agent=""

read_hosts() { # LIST
    local IFS=,
    read -r -a hosts <<<"$1"
}

read_hostfile() { # FILE
    [[ -r $1 ]] || refuse "cannot read the host file $1"
    mapfile -t hosts < <(sed 's/#.*//; s/[[:space:]].*//' "$1" | grep -v '^$')
}

parse() { # the command line up to and with --; leaves the number of words in `n_words`
    n_words=$#
    while (($# > 0)); do
        case $1 in
        --hosts | --hostfile | --per-host | --threads | --bind | --interface | --gpus | --lost-after | \
            --time-limit | --agent)
            (($# > 1)) || refuse "$1 needs a value"
            take "$1" "$2"
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
    n_words=$((n_words - $#))
}

take() { # OPTION VALUE
    case $1 in
    --hosts) read_hosts "$2" ;;
    --hostfile) read_hostfile "$2" ;;
    --per-host) per_host=$2 ;;
    --threads) threads=$2 ;;
    --bind) bind=$2 ;;
    --interface) interface=$2 ;;
    --gpus) gpus=$2 ;;
    --lost-after) lost_after=$2 ;;
    --time-limit) time_limit=$2 ;;
    --agent) agent=$2 ;;
    esac
}

check_numbers() {
    is_count "$per_host" || refuse "--per-host $per_host is not a number of ranks"
    is_count "$threads" || refuse "--threads $threads is not a number of threads"
    if ! is_count "$lost_after" || ((lost_after < 4)); then
        refuse "--lost-after $lost_after: at least 4 seconds"
    fi
    [[ -z $time_limit ]] || is_count "$time_limit" || refuse "--time-limit $time_limit is not a number of seconds"
    [[ -z $gpus ]] || is_count "$gpus" || refuse "--gpus $gpus is not a number of GPUs"
}

check_hosts() {
    local host
    ((${#hosts[@]} > 0)) || refuse "no hosts given: --hosts a,b or --hostfile FILE"
    for host in "${hosts[@]}"; do
        [[ $host =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || refuse "'$host' is not the name of a host"
    done
    [[ -z $(printf '%s\n' "${hosts[@]}" | sort | uniq -d) ]] || refuse "a host is named twice; use --per-host"
}

check_mpirun() {
    command -v "${command[0]}" >/dev/null || refuse "${command[0]} not found: install MPI, or set MPIRUN"
    is_open_mpi "${command[0]}" ||
        refuse "${command[0]} is not Open MPI's, which is all this script knows; with another MPI use" \
            "its own mpiexec, e.g. mpiexec -hosts ${hosts[0]},... -ppn $per_host"
}

place_ranks() {
    local slots
    slots=$(printf ",%s:$per_host" "${hosts[@]}")
    command+=(--host "${slots:1}" -n $((${#hosts[@]} * per_host)))
    if ((per_host * threads > cores)) && [[ $bind = core ]]; then
        bind=none
    fi
    case $bind in
    core) command+=(--map-by "slot:PE=$threads" --bind-to core) ;;
    numa | socket) command+=(--map-by "$bind" --bind-to "$bind") ;;
    none) command+=(--map-by slot --bind-to none) ;;
    *) refuse "--bind $bind: core, numa, socket or none" ;;
    esac
    if ((per_host > cores)); then
        command+=(--oversubscribe --mca mpi_yield_when_idle 1)
    fi
}

# Half of the time until the first probe, then three probes.
set_network() {
    local first=$((lost_after / 2))
    command+=(--mca oob_tcp_keepalive_time "$first"
        --mca oob_tcp_keepalive_intvl $(((lost_after - first) / 4 + 1))
        --mca oob_tcp_keepalive_probes 3)
    if [[ -n $interface ]]; then
        command+=(--mca btl_tcp_if_include "$interface" --mca oob_tcp_if_include "$interface")
    fi
    [[ -z $agent ]] || command+=(--mca plm_rsh_agent "$agent")
}

# Passes mpirun's stderr on and looks for its words about an abort. The pipe may stay open beyond
# mpirun's end (a remote shell holds it), so that is asked for, too.
supervise() {
    local pid line errors input status=0 aborted="" grace=3
    exec 3>&1 {input}<&0
    exec {errors}< <(exec "${command[@]}" 2>&1 >&3 3>&- <&"$input")
    pid=$!
    exec 3>&- {input}<&-
    trap 'kill -TERM "$pid" 2>/dev/null' TERM
    trap 'kill -USR1 "$pid" 2>/dev/null' USR1
    trap 'kill -USR2 "$pid" 2>/dev/null' USR2
    trap : INT # the terminal has told mpirun already
    while :; do
        if IFS= read -r -t 1 -u "$errors" line; then
            printf '%s\n' "$line" >&2
            if [[ $line =~ ^with\ errorcode\ ([0-9]+) ]]; then
                aborted=${BASH_REMATCH[1]}
                SECONDS=0
            fi
            continue
        fi
        [[ -z $line ]] || printf '%s' "$line" >&2
        kill -0 "$pid" 2>/dev/null || break
        if [[ -n $aborted ]] && ((SECONDS >= grace)); then
            echo "$LAUNCH_NAME: mpirun does not return after the abort: a host cannot be reached. Ending it." >&2
            pkill -TERM -P "$pid" || true
            kill -KILL "$pid" 2>/dev/null || true
            break
        fi
    done
    wait "$pid" 2>/dev/null || status=$?
    exit "${aborted:-$status}"
}

parse "$@"
shift "$n_words"
(($# > 0)) || refuse "no program given: launch/hosts.sh --hosts a,b -- paligrid run ..."
cores=${CORES:-$(count_cores)}
per_host=${per_host:-${NUMA_NODES:-$(count_numa_nodes)}}
threads=${threads:-$((cores >= per_host ? cores / per_host : 1))}
check_hosts
check_numbers
find_program "$1"
shift

read -r -a command <<<"${MPIRUN:-mpirun}"
check_mpirun
offer_root
place_ranks
set_network
[[ -z $time_limit ]] || command+=(--timeout "$time_limit")
[[ -z ${LD_LIBRARY_PATH:-} ]] || command+=(-x LD_LIBRARY_PATH)
if [[ -n ${MPIRUN_ARGS:-} ]]; then
    read -r -a more <<<"$MPIRUN_ARGS"
    command+=("${more[@]}")
fi
[[ -z $gpus ]] || command+=("$LAUNCH_ROOT/launch/gpu_of_rank.sh" "$gpus")
command+=("$program" "$@")
if [[ $dry_run = yes ]]; then
    start_or_show yes
fi
((${#environment[@]} == 0)) || export "${environment[@]}"
supervise
