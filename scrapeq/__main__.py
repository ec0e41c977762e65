"""Run the command line with `python -m scrapeq`."""

import sys

from scrapeq.cli import main

if __name__ == "__main__":
    sys.exit(main())
