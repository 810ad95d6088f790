#!/usr/bin/env bash
# Shows a rank one GPU of its host, then becomes the program:  gpu_of_rank.sh N PROGRAM ARGS...
# The i-th rank of a host gets the (i modulo N)-th of its N GPUs, or of those that CUDA_VISIBLE_DEVICES
# names already. Which rank this is, the launcher's variables tell. Under Slurm use
# --gpus-per-task and --gpu-bind instead (launch/slurm.sh), which know the distances.
set -euo pipefail

n_gpus=$1
shift
rank=${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-${SLURM_LOCALID:-}}}
if [[ -z $rank ]]; then
    echo "launch/gpu_of_rank.sh: no launcher tells this rank's number on its host" >&2
    exit 64
fi
gpus=()
for ((i = 0; i < n_gpus; i++)); do gpus+=("$i"); done
if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
    IFS=, read -r -a gpus <<<"$CUDA_VISIBLE_DEVICES"
fi
export CUDA_VISIBLE_DEVICES=${gpus[rank % ${#gpus[@]}]}
exec "$@"
