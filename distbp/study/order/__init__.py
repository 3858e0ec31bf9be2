"""Whether the order of the examples matters: trials, findings, page."""
