"""DICOM CTs: found among other files, checked, and read, one slice a file or many frames in one."""
