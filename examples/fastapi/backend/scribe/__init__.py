"""Scribe: transcriptions and comments, and the notifications that come of them."""
