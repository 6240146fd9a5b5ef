"""Main: what does ``python -m allogger`` do? The same as the program `allogger`."""

import sys

from allogger.cli import main

if __name__ == "__main__":
    sys.exit(main())
