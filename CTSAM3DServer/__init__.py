"""The inference server of CT-SAM3D: `ctsam3d serve`, or `python -m CTSAM3DServer`."""
