"""Text as people and programs read it: what may be shown, what must be hidden, valid JSON."""
