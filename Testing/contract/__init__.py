"""A static check: what the extension calls in Slicer exists there, with arguments that fit."""
