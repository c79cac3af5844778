"""Become one with the data: rows R01 to R09."""
