"""`python3 -m exec_wrapper --link LINK [--image NAME] MODULE[:FACTORY] [arguments…]`."""

import sys

from exec_wrapper.main import main

if __name__ == "__main__":
    sys.exit(main())
