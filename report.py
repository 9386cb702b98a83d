"""Tell which run has the best bound and which the tightest, on one page: ``python report.py --help``."""

import sys

from taut.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
