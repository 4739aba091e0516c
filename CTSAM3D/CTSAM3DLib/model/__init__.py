"""The promptable network: `build(name)`, and `checkpoints.load(path)` for trained weights."""

from CTSAM3DLib.model.network import CTSAM3D, build

__all__ = ["CTSAM3D", "build"]
