"""L2: one training run; knows no Ray, Optuna or MLflow."""
