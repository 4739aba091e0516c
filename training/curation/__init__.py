"""Curation of TotalSeg++ from TotalSegmentator: the steps of `training.curate`."""
