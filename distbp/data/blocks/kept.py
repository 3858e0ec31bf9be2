"""Where things are kept between runs: the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def find_cache_folder(name: str) -> Path | None:
    """Return the folder of this name in the user's cache, which need not exist; None where there is no home."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(base) / "distbp" / name
