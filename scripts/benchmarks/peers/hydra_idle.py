"""A Hydra sweeper over jobs that sleep: arguments are a file with settings and the file to write.

With Hydra's Optuna sweeper it runs in the peer's environment (hydra.txt), with ours in ours, so it imports nothing of
either. It calls itself as the Hydra application.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

LAUNCHERS = {"optuna": "joblib", "ray_optuna": "basic"}


def application():
    import hydra
    from hydra.core.hydra_config import HydraConfig

    settings = json.loads(pathlib.Path(os.environ["BENCH_SETTINGS"]).read_text())

    @hydra.main(version_base=None, config_path=str(pathlib.Path.cwd()), config_name="config")
    def job(cfg):
        begin, number = time.time(), HydraConfig.get().job.num
        time.sleep(settings["lengths"][number])
        pathlib.Path(os.environ["BENCH_SPANS"], str(number)).write_text(f"{begin} {time.time()}")
        return cfg.x

    job()


def main(told, said):
    settings = json.loads(pathlib.Path(told).read_text())
    here = pathlib.Path.cwd()
    spans = here / "spans"
    spans.mkdir()
    sweeper = settings["sweeper"]
    overrides = [{"override hydra/sweeper": sweeper}, {"override hydra/launcher": LAUNCHERS[sweeper]}]
    (here / "config.yaml").write_text(json.dumps({"defaults": ["_self_", *overrides], "x": 0.0}))  # JSON is YAML
    environment = os.environ | {"BENCH_SETTINGS": told, "BENCH_SPANS": str(spans)}
    jobs, workers = len(settings["lengths"]), settings["workers"]
    arguments = [
        *("--multirun", f"hydra.sweep.dir={here}/sweep", "x=interval(0,1)"),
        *("hydra/sweeper/sampler=random", f"hydra.sweeper.sampler.seed={settings['seed']}"),
        *(f"hydra.sweeper.n_trials={jobs}", f"hydra.sweeper.n_jobs={workers}"),
        *([f"hydra.launcher.n_jobs={workers}"] if LAUNCHERS[sweeper] == "joblib" else []),
    ]
    subprocess.run([sys.executable, __file__, *arguments], check=True, env=environment)
    notes = [(spans / str(number)).read_text().split() for number in range(jobs)]
    pathlib.Path(said).write_text(json.dumps([(float(begin), float(end)) for begin, end in notes]))


if __name__ == "__main__":
    application() if "BENCH_SETTINGS" in os.environ else main(*sys.argv[1:])
