"""L1: showing a search to people: the tracker protocol and its MLflow projection."""
