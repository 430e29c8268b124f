"""``python -m attsvm``: the command line."""

import sys

from attsvm.cli import main

if __name__ == "__main__":
    sys.exit(main())
