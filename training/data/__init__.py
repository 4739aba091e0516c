"""What the networks learn from: volumes made ready once, and patients made up."""
