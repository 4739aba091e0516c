"""Phantoms: synthetic anatomy for training and tests."""
