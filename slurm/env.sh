# shellcheck shell=bash
# Sourced by every job file, from the folder of the checkout in which `sbatch` was called.
set -euo pipefail

: "${1:?"the settings file is missing: sbatch slurm/<job>.sbatch CONFIG"}"
[ -r "$1" ] || { echo "$1: no such settings file" >&2; exit 2; }

# What this cluster needs (modules, caches, network interface); slurm/site.example.sh shows how.
# shellcheck source=slurm/site.example.sh
if [ -r slurm/site.sh ]; then source slurm/site.sh; fi

# Compute nodes often have no way out: models and data are fetched beforehand, on a login node.
export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}
export PATH="$PWD/.venv/bin:$PATH"

# launch MODULE CONFIG: one accelerate launcher a node, one process a GPU, rank 0 on the first node.
launch() {
  local head
  head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  HEAD_ADDRESS=$(scontrol -o show node "$head" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
  # From the job id, so that two jobs on one node do not meet.
  HEAD_PORT=$((20000 + SLURM_JOB_ID % 10000))
  NUM_PROCESSES=$((SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-1}))
  LAUNCH_CONFIG=${LAUNCH_CONFIG:-configs/accelerate/ddp.yaml}
  export HEAD_ADDRESS HEAD_PORT NUM_PROCESSES LAUNCH_CONFIG
  # shellcheck disable=SC2016  # each node expands these itself
  srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 bash -c '
    exec accelerate launch --config_file "$LAUNCH_CONFIG" --rdzv_backend static \
      --num_machines "$SLURM_NNODES" --num_processes "$NUM_PROCESSES" \
      --machine_rank "$SLURM_NODEID" \
      --main_process_ip "$HEAD_ADDRESS" --main_process_port "$HEAD_PORT" \
      -m "$1" --config "$2"' launch "$1" "$2"
}
