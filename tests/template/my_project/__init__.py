"""A model, a data source and an objective function that `search` is given."""
