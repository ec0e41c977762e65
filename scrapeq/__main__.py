"""`python -m scrapeq`: the command, without an installed script."""

import sys

from scrapeq.cli import main

if __name__ == "__main__":
    sys.exit(main())
