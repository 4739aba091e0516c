"""Clicks, the files and tables that hold them, and clicks of a simulated user."""
