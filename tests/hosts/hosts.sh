#!/usr/bin/env bash
# Pretended hosts on one machine, for tests of what happens between hosts. Needs root.
#
# Every host has network, mount, host name and process namespaces of its own: an address on a bridge, an
# own /dev/shm, own process numbers; files are shared, as on a cluster. A further one, "head", holds the
# bridge and keeps the machine's process numbers, so that signals and exit codes work as usual: start
# mpirun and the like there. The machine's own network is not touched.
#
# Sourced by tests:
#   hosts_missing                  what is missing to do this here; empty: nothing
#   hosts_start DIR NAME...        head, and the named hosts; from the test's own shell, no subshell
#   hosts_on NAME COMMAND...       runs a command there
#   hosts_cut NAME, hosts_mend NAME    the link: packets vanish, nobody is told
#   hosts_shape NAME RATE|none     both directions, e.g. 100mbit
#   hosts_crash NAME, hosts_boot NAME  the power; sockets are closed, as by a reset
#   hosts_pids NAME PROGRAM        process numbers, as the machine sees them
#   hosts_agent                    the remote shell for mpirun, as launch/hosts.sh --agent takes it
#   hosts_stop
# Whatever ends the test ends the hosts, too: their first processes die with the shell that started
# them, and with its first process a namespace dies as a whole.
# Run as a command, `hosts.sh rsh DIR NAME COMMAND` is the remote shell for mpirun.
set -euo pipefail

HOSTS_NET=10.77.0 # head is .1, hosts from .10 on

hosts_fail() {
    echo "hosts: $*" >&2
    return 1
}

hosts_missing() {
    local tool
    for tool in unshare nsenter setpriv ip tc; do
        command -v "$tool" >/dev/null || {
            echo "no $tool (packages util-linux, iproute2)"
            return
        }
    done
    if [[ $(id -u) != 0 ]]; then
        echo "namespaces of hosts need root"
    elif ! unshare --net --uts --mount --pid --fork sh -c \
        'mount -t tmpfs tmpfs /dev/shm && ip link add br0 type bridge && ip link add v0 type veth peer name v1' \
        2>/dev/null; then
        echo "this machine does not allow namespaces, bridges or veth pairs"
    fi
}

hosts_pid() { # NAME: its first process
    cat "$HOSTS_DIR/$1.pid"
}

# Enters without a process namespace of its own only the head.
hosts_on() {
    local name=$1 where=(-n -u -m)
    shift
    [[ $name = head ]] || where+=(-p)
    nsenter -t "$(hosts_pid "$name")" "${where[@]}" --wdns="$PWD" -- "$@"
}

hosts_await() { # SECONDS COMMAND...: until it succeeds
    local turns=$(($1 * 20))
    shift
    until "$@" >/dev/null 2>&1; do
        ((turns-- > 0)) || return 1
        sleep 0.05
    done
}

# What the first process of a host does. It reaps what others leave behind, hence a loop and not
# `sleep infinity`.
hosts_init() { # NAME DIR
    cd /
    hostname "$1"
    [[ $1 = head ]] || mount -t proc proc /proc
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mount --bind "$2/hosts" /etc/hosts
    ip link set lo up
    : >"$2/$1.up"
    while :; do
        sleep 3600 &
        wait $!
    done
}

hosts_spawn() { # NAME
    local name=$1 own=(--net --uts --mount --propagation private) first
    [[ $name = head ]] || own+=(--pid --fork --kill-child)
    rm -f "$HOSTS_DIR/$name.up"
    setpriv --pdeathsig KILL unshare "${own[@]}" \
        bash -c "$(declare -f hosts_init); hosts_init $name '$HOSTS_DIR'" </dev/null >"$HOSTS_DIR/$name.log" 2>&1 &
    first=$!
    disown
    echo "$first" >"$HOSTS_DIR/$name.outer"
    hosts_await 10 test -e "$HOSTS_DIR/$name.up" || hosts_fail "$name: $(<"$HOSTS_DIR/$name.log")"
    [[ $name = head ]] || first=$(<"/proc/$first/task/$first/children")
    echo "${first%% *}" >"$HOSTS_DIR/$name.pid"
}

hosts_boot() { # NAME
    local name=$1 address
    address=$(awk -v name="$name" '$2 == name { print $1 }' "$HOSTS_DIR/hosts")
    hosts_spawn "$name"
    hosts_on head ip link del "v$name" 2>/dev/null || true
    hosts_on head ip link add "v$name" type veth peer name eth0 netns "$(hosts_pid "$name")"
    hosts_on head ip link set "v$name" master br0 up
    hosts_on "$name" ip addr add "$address/24" dev eth0
    hosts_on "$name" ip link set eth0 up
}

hosts_start() {
    local number=10 name
    HOSTS_DIR=$(readlink -m "$1")
    export HOSTS_DIR
    shift
    mkdir -p "$HOSTS_DIR"
    printf '127.0.0.1 localhost\n%s.1 head\n' "$HOSTS_NET" >"$HOSTS_DIR/hosts"
    for name in "$@"; do
        echo "$HOSTS_NET.$((number++)) $name" >>"$HOSTS_DIR/hosts"
    done
    hosts_spawn head
    hosts_on head ip link add br0 type bridge forward_delay 0
    hosts_on head ip addr add "$HOSTS_NET.1/24" dev br0
    hosts_on head ip link set br0 up
    for name in "$@"; do
        hosts_boot "$name"
    done
}

hosts_gone() { # PID: a zombie is gone
    local state
    state=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) || return 0
    [[ -z $state || $state = Z ]]
}

hosts_crash() { # NAME
    local pid
    pid=$(hosts_pid "$1")
    kill -KILL "$pid"
    hosts_await 5 hosts_gone "$pid"
}

hosts_stop() {
    local file pid
    [[ -n ${HOSTS_DIR:-} ]] || return 0
    for file in "$HOSTS_DIR"/*.outer; do
        [[ -e $file ]] || continue
        pid=$(<"$file")
        kill -KILL "$pid" 2>/dev/null || true
        hosts_await 5 hosts_gone "$pid" || true
    done
    rm -rf "$HOSTS_DIR"
}

hosts_cut() { # NAME
    hosts_on head ip link set "v$1" down
}

hosts_mend() { # NAME
    hosts_on head ip link set "v$1" up
}

# The burst is large as frames of a veth pair are up to 64 KiB.
hosts_shape() { # NAME RATE|none
    hosts_on head tc qdisc del dev "v$1" root 2>/dev/null || true
    hosts_on "$1" tc qdisc del dev eth0 root 2>/dev/null || true
    [[ $2 != none ]] || return 0
    hosts_on head tc qdisc add dev "v$1" root tbf rate "$2" burst 256kb latency 100ms
    hosts_on "$1" tc qdisc add dev eth0 root tbf rate "$2" burst 256kb latency 100ms
}

hosts_pids() { # NAME PROGRAM
    local space pid
    space=$(readlink "/proc/$(hosts_pid "$1")/ns/pid")
    for pid in $(pgrep -x "$2" || true); do
        if [[ $(readlink "/proc/$pid/ns/pid" 2>/dev/null) = "$space" ]] && ! hosts_gone "$pid"; then
            echo "$pid"
        fi
    done
}

hosts_agent() { # the remote shell for mpirun; HOSTS_DIR holds no blanks
    echo "$(readlink -f "${BASH_SOURCE[0]}") rsh $HOSTS_DIR"
}

# mpirun calls it as `... rsh DIR NAME COMMAND WORD...`; like rsh, the words become one shell line.
if [[ ${BASH_SOURCE[0]} = "$0" ]]; then
    [[ ${1:-} = rsh && $# -ge 4 ]] || hosts_fail "usage: hosts.sh rsh DIR NAME COMMAND"
    HOSTS_DIR=$2 name=$3
    shift 3
    exec nsenter -t "$(hosts_pid "$name")" -n -u -m -p --wdns="$PWD" -- /bin/sh -c "$*"
fi
