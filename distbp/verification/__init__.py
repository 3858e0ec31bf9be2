"""Proof: are two runs the same, byte by byte, where do they part, and was a run really computed?"""
