"""Faults on purpose: processes killed at every boundary, and the table of what they left and how it was mended."""
