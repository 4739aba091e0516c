"""The page's MRML scene, its views, and how files come into it and leave it."""
