"""Model families, from simple to complex."""
