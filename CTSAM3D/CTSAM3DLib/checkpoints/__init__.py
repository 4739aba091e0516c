"""Trained models: read, write, find and download weights and their metadata."""
