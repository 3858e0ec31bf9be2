"""`distbp` and `python -m distbp`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from distbp.installation import describe_missing
from distbp.signals import Terminated, end_on_signals, ignore_signals


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (None: this process's own) and return its exit code; never raises."""
    is_process = argv is None
    try:
        if is_process:
            end_on_signals()
        from distbp.cli.app import run
    except Terminated:  # while it starts up
        return 143
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as missing:  # it travelled with a job to a node that has Ray alone
        sys.stderr.write(f"Error: {describe_missing(missing)}\n")
        return 1
    code = run(sys.argv[1:] if argv is None else argv)
    if is_process:
        ignore_signals()  # all is said; what is left is Ray's own end
    return code


if __name__ == "__main__":
    sys.exit(main())
