"""What must not be shown: passwords and keys in the addresses of storage, clusters and data."""

from __future__ import annotations

import re

MASK = "***"

_USER_INFO = re.compile(r"(?<=://)[^\s/?#'\"@]*:[^\s/?#'\"]*(?=@)")
_SECRET_NAMES = r"[\w.-]*(?:password|passwd|pwd|secret|token|key|credential|signature|sig)[\w.-]*"
_SECRET_VALUES = re.compile(rf"([?&;]{_SECRET_NAMES}=)[^&#;\s'\"]+", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """Return `text` with *** for the user and password of URLs and for the values of secret-looking query fields."""
    if "://" not in text:
        return text
    return _SECRET_VALUES.sub(rf"\1{MASK}", _USER_INFO.sub(MASK, text))
