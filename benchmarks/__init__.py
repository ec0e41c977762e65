"""What is measured of scrapeq; see README.md."""
