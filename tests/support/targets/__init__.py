"""Third-party applications to scrape, installed from the package index into separate environments."""
