"""How a person's clicks become predictions, without Qt and without asyncio."""
