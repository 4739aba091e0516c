"""The sections of the module's panel, and what they share with the effect: settings, backends, requirements."""
