"""From what the network answers in patches to the mask of a structure."""
