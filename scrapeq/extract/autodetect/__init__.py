"""Detects from a response how its next page is requested."""
