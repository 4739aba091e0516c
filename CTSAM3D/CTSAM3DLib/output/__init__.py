"""Output of masks: .seg.nrrd files, pictures, and provenance."""
