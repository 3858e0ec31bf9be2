"""`distbp` and `python -m distbp`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from distbp.installation import describe_missing


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (None: this process's own) and return its exit code; never raises."""
    try:
        from distbp.cli.app import run
    except KeyboardInterrupt:  # while it starts up
        return 130
    except ModuleNotFoundError as missing:  # it travelled with a job to a node that has Ray alone
        sys.stderr.write(f"Error: {describe_missing(missing)}\n")
        return 1
    return run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
