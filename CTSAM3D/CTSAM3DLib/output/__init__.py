"""What becomes of a mask: .seg.nrrd files, pictures, and the record of how it was made."""
