"""Variants of the paper's Table 4: a U-Net encoder in place of ResT, Fourier-feature prompts in place of PSAP."""
