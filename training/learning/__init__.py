"""Training: the paper's Algorithm 1, and the bundled model's training loop with all work on the device."""
