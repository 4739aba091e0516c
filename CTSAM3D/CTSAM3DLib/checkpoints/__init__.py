"""Trained weights: reading, writing, finding and downloading them."""
