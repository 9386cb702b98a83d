"""Save a W&B workspace that shows how tight the bounds of all runs are: ``python dashboard.py --help``."""

import sys

from taut.commands.dashboard.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
