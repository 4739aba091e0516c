"""Training data: data sets, preprocessing, samplers, atlases and supervoxels."""
