"""The CT-SAM3D effect of the Segment Editor."""

from SegmentEditorCTSAM3DLib.SegmentEditorEffect import SegmentEditorEffect

__all__ = ["SegmentEditorEffect"]
