"""Hyperparameter search for PyTorch that follows the recipe of good practitioners."""

__version__ = "0.1.0"
