"""`python -m pylogwal` is the command line."""

import sys

from pylogwal.cli import main

if __name__ == "__main__":
    sys.exit(main())
