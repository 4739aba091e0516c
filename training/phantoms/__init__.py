"""Synthetic anatomy to train and test on."""
