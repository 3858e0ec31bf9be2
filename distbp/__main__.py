"""`distbp` and `python -m distbp`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (None: this process's own) and return its exit code; never raises."""
    try:
        from distbp.cli.app import run
    except KeyboardInterrupt:  # while it starts up
        return 130
    return run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
