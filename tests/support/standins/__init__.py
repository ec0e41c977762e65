"""
Small loopback servers that imitate well-known APIs: as strict as the originals, with a log of all requests.

They are written from the public documentation of those APIs and import nothing from scrapeq.
"""
