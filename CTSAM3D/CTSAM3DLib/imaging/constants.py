"""Numbers that all rooms share; this file imports nothing, so that whoever needs a number needs no library."""

PAPER_SPACING = 1.5
"""mm. Voxel size of the paper's network (Implementation Details)."""
AIR_HU = -1024
"""HU. Value of voxels outside a CT."""
PATCH = 64
"""Voxels along each axis of the patch that every network sees, and of a tile."""
