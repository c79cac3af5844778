"""Ray Tune over trials that train small networks: arguments are a file with settings and the file to write.

Runs with our own environment's Python, so that torch, Ray, Optuna and MLflow are the same; imports nothing of ours.
The time begins once as many actors as there are workers have imported everything and trained a little for practice.
"""

import json
import pathlib
import sqlite3
import sys
import time
import uuid

import optuna
import plain
import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch


class Trial(tune.Trainable):
    def setup(self, config):
        if not hasattr(plain, "DATA"):
            practise()
        self.epochs = 0
        self.training = training_of(config, SETTINGS["epochs"])

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def step(self):
        self.epochs += 1
        return {**self.training.epoch(), "done": self.epochs == SETTINGS["epochs"]}

    def save_checkpoint(self, checkpoint_dir):
        return None

    def load_checkpoint(self, checkpoint):
        return None


def training_of(config, epochs):
    """Return the training of what was drawn: dimensions of networks that were not are left out."""
    network = config.get("model", SETTINGS["network"])
    settings = {
        d["path"]: config[d["name"]]
        for d in SETTINGS["dimensions"]
        if d["path"] != "model" and (d["option"] is None or d["option"][1] == network)
    }
    return plain.Training(plain.DATA, network, settings, epochs, SETTINGS["batch_size"])


def practise():
    """Get a new process ready, and note when it is."""
    torch.set_num_threads(1)
    plain.DATA = plain.load(SETTINGS["data"])
    for config in SETTINGS["practice"]:
        training_of(config, 1).epoch()
    (READY / uuid.uuid4().hex).write_text(repr(time.time()))


class Ended(tune.Callback):
    """Notes when trials end; the last of the callbacks, so that MLflow has been told by then."""

    def __init__(self):
        self.times = []
        self.best = 0.0
        self.reports = 0

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.reports += 1
        self.best = max(self.best, result["objective"])

    def on_trial_complete(self, **info):
        self.times.append(time.time())


def domain(dimension):
    """Return a dimension of ours as one of Tune's."""
    if dimension["choices"]:
        return tune.choice(dimension["choices"])
    low, high = dimension["low"], dimension["high"]
    if dimension["integer"]:
        return tune.randint(int(low), int(high) + 1)
    return tune.loguniform(low, high) if dimension["log"] else tune.uniform(low, high)


def scheduler():
    """Return ASHA with our rungs, whose distances need not be powers of eta; None for no pruning."""
    if not SETTINGS["rungs"]:
        return None
    asha = ASHAScheduler(
        max_t=SETTINGS["epochs"], grace_period=SETTINGS["rungs"][0], reduction_factor=SETTINGS["eta"], brackets=1
    )
    asha._brackets[0]._rungs = [(rung, {}) for rung in reversed(SETTINGS["rungs"])]
    return asha


SETTINGS = json.loads(pathlib.Path(sys.argv[1]).read_text())
folder = pathlib.Path.cwd()
READY = folder / "ready"
READY.mkdir()
trials, workers = SETTINGS["trials"], SETTINGS["workers"]
ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
ended = Ended()
uri = f"sqlite:///{folder}/mlflow.db"
tuner = tune.Tuner(
    Trial,
    param_space={d["name"]: domain(d) for d in SETTINGS["dimensions"]},
    tune_config=tune.TuneConfig(
        metric="objective",
        mode="max",
        num_samples=trials,
        max_concurrent_trials=workers,
        search_alg=OptunaSearch(sampler=optuna.samplers.RandomSampler(seed=0)),
        scheduler=scheduler(),
        reuse_actors=True,
    ),
    run_config=tune.RunConfig(
        storage_path=str(folder / "tune"),
        callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="bench"), ended],
        verbose=0,
    ),
)
results = tuner.fit()
assert len(results) == len(ended.times) == trials, (len(results), len(ended.times))
assert not results.errors, results.errors[:1]
with sqlite3.connect(folder / "mlflow.db") as connection:
    (points,) = connection.execute("SELECT count(*) FROM metrics WHERE key = 'objective'").fetchone()
assert points == ended.reports, (points, ended.reports)
ready = sorted(float(path.read_text()) for path in READY.iterdir())
wall = ended.times[-1] - ready[min(workers, len(ready)) - 1]
found = {"wall": wall, "trials": trials, "epochs": ended.reports, "best": ended.best, "processes": len(ready)}
pathlib.Path(sys.argv[2]).write_text(json.dumps(found))
