"""L4: what is made of finished trials: ensembles, students, one packaged model."""
