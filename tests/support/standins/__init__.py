"""
Small servers of the shape of well-known APIs, on loopback: strict where those are, with a log of what was asked.

Written from the public documentation of those APIs; they import nothing of scrapeq.
"""
