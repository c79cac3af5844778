"""The files of a trial's folder: its worker writes them, the driver clears away what is no longer needed."""

CONFIG = "config.json"
"""What was trained, written before training begins."""
CHECKPOINT = "checkpoint.safetensors"
"""Where training goes on."""
WEIGHTS = "weights.safetensors"
"""The best weights."""
COST = "cost.json"
"""How large the network is, and how long it takes to predict."""
SNAPSHOTS = "snapshots"
"""A folder for each cycle of the schedule that was finished, by its number: weights and predictions at its end."""
SPLITS = ("train", "validation", "test")
DIAGNOSTICS = "diagnostics.npz"
"""What its layers were like while it trained."""
DIAGNOSIS = "diagnosis.txt"
"""What ails it, a line each; absent where nothing does."""
LOOK = "look"
"""The folder with figures of what it is like inside; whole or absent."""
NOT_DRAWN = "not-drawn.txt"
"""What is missing in it and why, a line each; absent where nothing is."""
TAKEN = "taken.json"
"""Which folders' weights a mean is of."""
OUTCOME = "outcome.json"
"""How it ended."""
LOG = "log.txt"
"""What user code printed."""


def predictions_of(split: str) -> str:
    """Return the file of the best weights' predictions on a split."""
    return f"{split}.npy"


CROSS_FITTED = "validation.cross-fitted.npy"
"""Predictions on validation, each example's by what was chosen without it."""
