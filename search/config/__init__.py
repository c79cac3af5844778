"""L1: what may be written in a configuration, and the one place that calls what it names."""
