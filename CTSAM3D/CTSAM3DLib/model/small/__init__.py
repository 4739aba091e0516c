"""What only the bundled network has: a U-Net's voxel embedding, and guidance maps."""
