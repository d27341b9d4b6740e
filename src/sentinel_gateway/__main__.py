"""`python -m sentinel_gateway` is `sentinel`."""

import sys

from sentinel_gateway.cli import main

if __name__ == "__main__":
    sys.exit(main())
