#!/usr/bin/env bash
# RANKS: 1
# launch/local.sh: the command lines it makes (--dry-run, with a pretended mpirun and core count),
# what it starts, and what it refuses.
SCRIPT=launch/local.sh
# shellcheck source=tests/unit/launch_case.sh
. "$(dirname "$0")/launch_case.sh"
export CORES=4

pretend mpirun "mpirun (Open MPI) 4.1.4"
pretend id 1000
same "one rank needs no mpirun" "prog 'a b'" "$(line -n 1 -- prog 'a b' | sed "s/a\\\\ b/'a b'/")"
same "a core each" "mpirun --bind-to core -n 4 prog -n 7" "$(line -n 4 -- prog -n 7)"
same "the number of cores is the default" "mpirun --bind-to core -n 4 prog" "$(line -- prog)"
same "more ranks than cores" \
    "env OMPI_MCA_mpi_yield_when_idle=1 mpirun --oversubscribe --bind-to none -n 5 prog" \
    "$(line -n 5 -- prog)"
same "the user's choices stay" "mpirun -q --oversubscribe --bind-to socket --tag-output -n 5 prog" \
    "$(OMPI_MCA_mpi_yield_when_idle=0 BIND=socket MPIRUN="mpirun -q" MPIRUN_ARGS=--tag-output RANKS=5 line -- prog)"
same "a forced mpirun" "mpirun --bind-to none -n 1 prog" "$(MPIRUN=mpirun line -n 1 -- prog)"
same "the program of this checkout" "mpirun --bind-to none -n 2 /some/paligrid info" \
    "$(PALIGRID=/some/paligrid line -n 2 -- paligrid info)"
pretend id 0
[[ $(line -n 2 -- prog) = "env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "*" -n 2 prog" ]] ||
    same "root" "env OMPI_ALLOW_RUN_AS_ROOT=1 ..." "$(line -n 2 -- prog)"
pretend mpirun "HYDRA build details: Version: 4.0.2"
same "another MPI gets the number only" "mpirun -n 5 prog" "$(line -n 5 -- prog)"

same "it starts the program, arguments intact" "<a b><>" \
    "$(launch/local.sh -n 1 -- printf '<%s>' 'a b' '')"
status=0
launch/local.sh -n 1 -- sh -c 'exit 65' || status=$?
same "the program's exit status is passed on" 65 "$status"

refused "-n 0 is not a number of ranks" -n 0 -- prog
refused "-n x is not a number of ranks" -n x -- prog
refused "no program given" -n 2
refused "unknown option --ranks" --ranks 2 -- prog
MPIRUN=no-such-mpirun refused "no-such-mpirun not found" -n 2 -- prog
holds --help "Usage: launch/local.sh" "$(launch/local.sh --help)"
finish
