"""Data sources and how they are split."""
