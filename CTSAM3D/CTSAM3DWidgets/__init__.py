"""The panel of the CT-SAM3D module in sections, and what it shares with the effect: settings, backends, requirements."""
