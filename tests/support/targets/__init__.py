"""Applications that others wrote, installed from the package index, each in an environment of its own."""
