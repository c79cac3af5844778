"""L5: compose, wire, nothing else."""
