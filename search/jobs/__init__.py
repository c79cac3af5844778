"""Trials that are calls of the user's own program: an objective function, or a Hydra application's job."""
