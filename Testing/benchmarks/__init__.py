import CTSAM3DLib  # noqa: F401 - says how PyTorch's threads wait, before a benchmark loads PyTorch
