"""Evaluation: methods clicked by one protocol, their scores, and comparisons."""
