"""The two colours of clicks, and of what clicks change: red, green and blue from 0 to 1."""

POSITIVE_COLOR = (0.2, 0.9, 0.3)
"""Of clicks inside a structure, and of what a click added."""
NEGATIVE_COLOR = (1.0, 0.25, 0.2)
"""Of clicks outside a structure, and of what a click removed."""
