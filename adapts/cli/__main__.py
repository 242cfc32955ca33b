r"""`python -m adapts.cli` is `adapts`."""

from . import main

if __name__ == "__main__":
    main()
