"""The network's hand-written execution on a CPU. Deleting this folder would cost speed and nothing else."""
