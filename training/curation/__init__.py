"""TotalSeg++ out of TotalSegmentator: the steps of `training.curate`."""
