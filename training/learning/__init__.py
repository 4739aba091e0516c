"""How the networks learn, everything on the device: samples, clicks, losses, and the loop."""
