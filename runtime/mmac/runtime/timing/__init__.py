"""Cycles of a program at all its levels at once, exact and independent of loop counts."""
