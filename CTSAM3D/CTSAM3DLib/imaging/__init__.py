"""Volumes in Hounsfield units and where their voxels lie: geometry, files, DICOM, resampling."""
