"""Ray Tune over trials that do nothing but report: arguments are a file with settings and the file to write.

Runs in the peer's environment (tune.txt), so it imports nothing of ours.
"""

import json
import pathlib
import sqlite3
import sys
import time

import optuna
import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch


class Noop(tune.Trainable):
    def setup(self, config):
        self.number = hash(tuple(sorted(config.items()))) % 1000
        self.steps = 0

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def step(self):
        self.steps += 1
        return {"objective": self.number / 1000 * (1 - 0.1 / self.steps), "done": self.steps == REPORTS}

    def save_checkpoint(self, checkpoint_dir):
        return None

    def load_checkpoint(self, checkpoint):
        return None


class Ended(tune.Callback):
    """Notes when trials end; the last of the callbacks, so that MLflow has been told by then."""

    def __init__(self):
        self.times = []
        self.reports = 0

    def on_trial_result(self, **info):
        self.reports += 1

    def on_trial_complete(self, **info):
        self.times.append(time.perf_counter())


settings = json.loads(pathlib.Path(sys.argv[1]).read_text())
REPORTS, trials = settings["reports"], settings["trials"]
folder = pathlib.Path.cwd()
ray.init(
    address="local", num_cpus=settings["workers"], include_dashboard=False, log_to_driver=False, logging_level="ERROR"
)
ended = Ended()
uri = f"sqlite:///{folder}/mlflow.db"
callbacks = [MLflowLoggerCallback(tracking_uri=uri, experiment_name="bench")] if settings["mlflow"] else []
space = {
    "lr": tune.loguniform(1e-4, 1.0),
    "momentum": tune.uniform(0.0, 0.99),
    "weight_decay": tune.loguniform(1e-6, 1e-2),
    "width": tune.choice([32, 64, 128, 256]),
    "depth": tune.randint(1, 5),
    "dropout": tune.uniform(0.0, 0.5),
}
tuner = tune.Tuner(
    Noop,
    param_space=space,
    tune_config=tune.TuneConfig(
        metric="objective",
        mode="max",
        num_samples=trials,
        max_concurrent_trials=settings["workers"],
        search_alg=OptunaSearch(sampler=optuna.samplers.RandomSampler(seed=0)),
        reuse_actors=True,
    ),
    run_config=tune.RunConfig(storage_path=str(folder / "tune"), callbacks=[*callbacks, ended], verbose=0),
)
results = tuner.fit()
wanted = trials * REPORTS
assert len(results) == len(ended.times) == trials, (len(results), len(ended.times))
assert not results.errors, results.errors[:1]
assert ended.reports == wanted, ended.reports
if settings["mlflow"]:
    with sqlite3.connect(folder / "mlflow.db") as connection:
        (points,) = connection.execute("SELECT count(*) FROM metrics WHERE key = 'objective'").fetchone()
    assert points == wanted, points
warm_up = settings["warm_up"]
rate = (trials - warm_up) / (ended.times[-1] - ended.times[warm_up - 1])
pathlib.Path(sys.argv[2]).write_text(json.dumps(rate))
