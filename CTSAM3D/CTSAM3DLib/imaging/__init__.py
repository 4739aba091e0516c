"""CT volumes: voxels in Hounsfield units with their geometry, image files, DICOM, resampling."""
