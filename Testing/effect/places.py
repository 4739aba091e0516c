"""Places in the test's CT, world RAS in mm."""

INSIDE = (37.5, 45.0, 45.0)
"""In the middle of the first bright box."""
INSIDE_TOO = (45.0, 52.5, 36.0)
EDGE = (25.5, 33.0, 33.0)
"""In the first box, near its corner."""
OTHER_BOX = (97.5, 45.0, 45.0)
