"""Prompts simulated where the network learns: whole batches as tensors, on a processor or a GPU by the same code.

No value leaves the device: nothing here waits for a GPU, so that a training loop only hands out work. Everything needs
PyTorch, NumPy and `CTSAM3DLib.prompts` alone. Tensors are (batch, channel, z, y, x), positions are voxels (z, y, x),
and random numbers come from the `torch.Generator` that is passed in, on the device of the tensors. A patch without the
structure gets no prompt: its `there` is False.
"""
