"""`python -m npipes`: the command line."""

import sys

from npipes.cli import main

if __name__ == "__main__":
    sys.exit(main())
