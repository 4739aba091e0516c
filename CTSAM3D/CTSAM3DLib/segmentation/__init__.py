"""A mask is a function of volume, clicks, reach and model: patches, prompt maps, growth, session, result."""
