"""`distbp` and `python -m distbp`. Nothing is imported before `main` has seen to it that this is safe."""

import os
import sys

SAFE_PATH = "PYTHONSAFEPATH"


def main(argv: list[str] | None = None) -> int:
    """Run one command line (None: this process's own) and return its exit code; never raises."""
    _distrust_current_folder()
    from distbp.machine.signals import Terminated, end_on_signals, ignore_signals

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
        from distbp.installation import describe_missing

        sys.stderr.write(f"Error: {describe_missing(missing)}\n")
        return 1
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"  # for the processes that are started from here
    try:
        code = run(sys.argv[1:] if argv is None else argv)
    finally:
        os.environ.pop(SAFE_PATH) if before is None else os.environ.update({SAFE_PATH: before})
    if is_process:
        ignore_signals()  # all is said; what is left is Ray's own end
    return code


def _distrust_current_folder() -> None:
    """Look for modules where they are installed, not in the current folder: its yaml.py may be anybody's.

    `python -m` puts that folder first on sys.path, and so does an empty entry of PYTHONPATH. It stays, but last, only
    where distbp itself lies in it: in a checkout, and in the folder that travels with a job.
    """
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib is not imported yet
    except OSError:  # the folder was removed
        here = ""
    sys.path[:] = [entry for entry in sys.path if entry and os.path.realpath(entry) != here]
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 - the same
    if home == here:
        sys.path.append(here)


if __name__ == "__main__":
    sys.exit(main())
