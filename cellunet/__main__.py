"""Run the command line as ``python -m cellunet``."""

import sys

from cellunet.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
