"""Machines as they describe themselves: outputs of nvidia-smi, NCCL, hwloc, InfiniBand, Slurm, Kubernetes."""
