"""The command line: `ctsam3d`."""
