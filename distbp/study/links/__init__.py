"""The links study: what rounds of local steps bring where the links between hosts are slow, and what they cost."""
