"""The network of the paper: image encoder, prompt decoder (PSAP) and cross-patch prompt network (CPP).

`build(name)` makes it untrained; `checkpoints.checkpoint.load(path)` reads trained weights. Read in this order:
`network`, `encoder`, `decoder`, `spade`, `cross_patch`, `configs`. `small/` holds what only the bundled network has,
`ablations/` the variants of the paper's Table 4.
"""

from CTSAM3DLib.model.network import CTSAM3D, build

__all__ = ["CTSAM3D", "build"]
