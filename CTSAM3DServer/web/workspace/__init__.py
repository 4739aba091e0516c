"""What a person does on a page: clicking, segments, predictions, messages."""
