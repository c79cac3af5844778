"""The Hydra sweeper `hydra/sweeper=ray_optuna`."""
