# shellcheck shell=bash
# Copy to slurm/site.sh (git ignores it) and say what this cluster needs. slurm/env.sh sources it.
# Partition, account and constraint are no part of it: give them to sbatch, or set SBATCH_PARTITION,
# SBATCH_ACCOUNT and SBATCH_CONSTRAINT where you call sbatch.

# module load cuda/12.8

# One cache for all nodes. Fill it on a node that reaches the network (slurm/README.md: data_gen.prefetch).
# export HF_HOME=/shared/$USER/huggingface

# The network interface between nodes.
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

# How the training jobs run: ddp.yaml (default); for the critic also fsdp2.yaml or deepspeed_zero2.yaml.
# export LAUNCH_CONFIG=configs/accelerate/fsdp2.yaml

# Secrets come from your own environment or key store, never from a file in the checkout.
