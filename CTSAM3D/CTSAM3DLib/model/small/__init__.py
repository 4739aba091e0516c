"""The bundled network's own parts: a voxel embedding, guidance maps, and the decoder that uses them."""
