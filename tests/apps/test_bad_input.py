"""More mistakes in configurations, through the real command line: one line that names the key, exit code 2.

Those in `test_command_line.py` are answered before anything heavy is imported; some of these are not.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.kits.commands import one_after_another

MISTAKES: dict[str, tuple[list[str], str]] = {
    # what failures cost
    "share above one": (["failures.share=2"], "failures.share=2.0: must lie above 0 and up to 1"),
    "share that is no number": (["failures.share=nan"], "failures.share=nan: must lie above 0 and up to 1"),
    "empty window": (["failures.window=0"], "failures.window=0: must be at least 1"),
    "negative retries": (["failures.retries.hang=-1"], "failures.retries.hang=-1: must be at least 0"),
    "retries as a word": (["failures.retries.exception=often"], "failures.retries.exception=often; Value 'often'"),
    "unknown cause": (
        ["failures.retries.oom=1"],
        "failures.retries.oom: no such key; allowed: exception, non_finite, out_of_memory",
    ),
    "hang at zero": (["failures.hang_seconds=0"], "failures.hang_seconds=0.0: must be above 0"),
    # the cluster
    "no grace": (["cluster.grace=0"], "cluster.grace=0.0: must be at least 1"),
    "grace at null": (["cluster.grace=null"], "cluster.grace=null; field 'cluster.grace' is not Optional"),
    "no memory": (["cluster.memory_per_trial=0"], "cluster.memory_per_trial=0.0: must be above 0"),
    "memory with a unit": (["cluster.memory_per_trial=8GB"], "cluster.memory_per_trial=8GB; Value '8GB'"),
    "recycled at once": (["cluster.recycle_trials=0"], "cluster.recycle_trials=0: must be at least 1"),
    "growth below zero": (["cluster.recycle_growth=-1"], "cluster.recycle_growth=-1.0: must be above 0"),
    "mistyped recycling": (["cluster.recycle=3"], "cluster.recycle: no such key; did you mean recycle_trials?"),
    "unknown cluster": (["cluster=slurm"], "cluster=slurm: no such option; allowed: existing, local"),
    # budgets
    "negative checkpoints": (["budget.checkpoints=-1"], "budget.checkpoints=-1.0: must be at least 0"),
    "checkpoints as a word": (["budget.checkpoints=lots"], "budget.checkpoints=lots; Value 'lots'"),
    "half a trial": (["budget.trials=1.5"], "budget.trials=1.5; Value '1.5' of type 'float'"),
    "hours that are no number": (["budget.hours=nan"], "budget.hours=nan: must be above 0"),
    "a number for a node": (["budget=5"], "budget=5; Invalid type assigned: int is not a subclass of Budget"),
    # what is kept and made of it
    "nothing kept": (["squeeze.keep=0"], "squeeze.keep=0: must be at least 1"),
    "one fold": (["squeeze.folds=1"], "squeeze.folds=1: must be at least 2"),
    "students that vary in what is none": (
        ["+squeeze.distill.space.temprature.choices=[1,2]"],
        "squeeze.distill.space.temprature: ",
    ),
    "students that vary too far": (
        ["squeeze.distill.space.mix.choices=[0.5,2.0]"],
        "squeeze.distill.space.mix: squeeze.distill.mix=2.0 lies in it; must lie in 0 to 1",
    ),
    "student that is no model": (["squeeze.student=5"], "squeeze.student=5: must be the configuration of a model"),
    "no inputs to teach": (["squeeze.distill.transfer=gone.npy"], "squeeze.distill.transfer=gone.npy: no such file"),
    "a table to teach of pictures": (
        ["squeeze.distill.transfer=garbage.csv"],
        "squeeze.distill.transfer=garbage.csv: inputs are arrays here; must end in .npy or .npz",
    ),
    "pictures to teach of another shape": (
        ["squeeze.distill.transfer=flat.npy"],
        "squeeze.distill.transfer=flat.npy: inputs have the shape (2, 64); must be (N, 1, 8, 8)",
    ),
    "students of several files": (
        ["+squeeze.distill.space.transfer.choices=[a,b]"],
        "squeeze.distill.space.transfer: cannot vary; allowed: temperature, mix,",
    ),
    # pruners
    "rungs twice": (["pruner=promotion", "pruner.rungs=[0.5,0.5]"], "pruner.rungs=[0.5, 0.5]: must be rising"),
    "rung that is no number": (["pruner.rungs=[nan]"], "pruner.rungs=[nan]: must be rising fractions between 0 and 1"),
    "promotion of all": (["pruner=promotion", "pruner.eta=1"], "pruner.eta=1: must be at least 2"),
    "promotion of nothing": (
        ["pruner=none", "pruner.eta=3"],
        "pruner.eta: no such key with pruner=none; allowed: kind",
    ),
    "mistyped key of a chosen option": (
        ["model=cnn", "model.chanels=8"],
        "model.chanels: no such key with model=cnn; did you mean channels? allowed: space, fits, channels, blocks",
    ),
    "mistyped key of an option of one's own": (
        ["--config-dir=my, 'own'", "model=net", "model.hiden=8"],
        "model.hiden: no such key with model=net; did you mean hidden? allowed: hidden, space",
    ),
    "key of no group beside an option": (["model=cnn", "trainer.epoch=3"], "trainer.epoch: no such key; did you mean"),
    "mistyped key in a file": (
        ["--config-dir=my, 'own'", "+experiment=typo"],
        "experiment/typo.yaml: objectve: no such key; did you mean objective? allowed: name, seed,",
    ),
    "mistyped key of a node in a file": (
        ["--config-dir=my, 'own'", "+experiment=deep"],
        "experiment/deep.yaml: budget.trails: no such key; did you mean trials? allowed: trials, hours,",
    ),
    "a file that is no YAML": (
        ["--config-dir=my, 'own'", "+experiment=half"],
        "experiment/half.yaml:3: expected ',' or '}', but got",
    ),
    "a file of keys for the whole without its first line": (
        ["--config-dir=my, 'own'", "+experiment=placed"],
        "experiment/placed.yaml: must begin with the line # @package _global_",
    ),
    "no such experiment": (
        ["--config-dir=my, 'own'", "+experiment=tpyo"],
        "experiment=tpyo: no such option; allowed: deep, fashion_mnist, half, mnist1d, placed, typo",
    ),
    "half an eta": (["pruner=promotion", "pruner.eta=2.5"], "pruner.eta=2.5; Value '2.5'"),
    "unknown pruner": (["pruner=bohb"], "pruner=bohb: no such option; allowed: asha, hyperband, median, none"),
    "kind without its keys": (
        ["pruner.kind=hyperband"],
        "pruner.kind=hyperband: needs pruner.min_resource; write pruner=hyperband instead",
    ),
    # stages and resuming
    "no stage": (["stages=[]"], "stages=[]: must name at least one of inspect, "),
    "sync beside others": (["stages=[sync,report]"], "stages=[sync]: runs alone and needs tracking"),
    "sync without tracking": (["stages=[sync]", "tracking=none"], "stages=[sync]: runs alone and needs tracking"),
    "bogus resume": (["resume=bogus"], "resume=bogus: must be one of auto, must, never, extend"),
    "nothing to resume": (["resume=must"], "holds no study; check name=... or search first"),
    # keys that would have no effect
    "added key": (["+trainer.epoch=3"], "trainer.epoch: no such key; did you mean epochs? allowed: epochs,"),
    "variable that is not set": (["seed=${oc.env:NOT_THERE}"], "seed: KeyError raised while resolving interpolation"),
    # spaces
    "bound at infinity": (["optimizer.space.lr.high=inf"], "optimizer.space.lr.high=inf: must be a number"),
    "steps in the logarithm": (["+optimizer.space.lr.step=0.1"], "optimizer.space.lr.step=0.1: cannot be combined"),
    "space over a list": (["+optimizer.space.betas={low: 0, high: 1}"], "optimizer.space.betas: betas=[0.9, 0.999]"),
    "word among numbers": (["+trainer.space.batch_size={choices: [16, small]}"], "trainer.batch_size: cannot be"),
    "epochs from zero": (
        ["+trainer.space.epochs={low: 0, high: 3}"],
        "the space of trainer.epochs: trainer.epochs=0 lies in it; must be at least 1",
    ),
    # starting points
    "enqueue a number": (["enqueue=[5]"], "enqueue: 5 must be a mapping of parameters"),
    "enqueue a word": (["enqueue=[{optimizer.lr: fast}]"], "enqueue: optimizer.lr=fast lies outside its space"),
    "enqueue another's parameter": (
        ["enqueue=[{model: mlp, model.cnn.kernel: 3}]"],
        "enqueue: model.cnn.kernel is no parameter of that trial; allowed: model, model.mlp.width",
    ),
    # tracking
    "unknown store": (["tracking.uri=foo://bar"], "tracking.uri=foo://bar: MLflow knows no foo://; allowed: sqlite"),
    "folder for a database": (["tracking.uri=sqlite:////tmp"], "/tmp: is a folder, no SQLite database; tracking.uri="),
    "file that is no database": (["tracking.uri=sqlite:///garbage"], "garbage: is no SQLite database; tracking.uri="),
    # data: what only loading it shows
    "no such file": (["data=csv", "data.path=nowhere.csv", "data.target=y"], "nowhere.csv"),
    "no such function": (["data._target_=no.such.thing"], "data._target_=no.such.thing: "),
    "figure of another task": (["metric.name=rmse"], "metric.name=rmse"),
    "no such column": (["split.group=a"], "split.group=a"),
    # places
    "file for a folder": (["output_dir=garbage"], "output_dir: garbage cannot be written (File exists)"),
}
EXPERIMENTS = {"typo": "objectve: 3", "deep": "budget: {trails: 3}", "half": "objective: {_target_: a.b"}
NO_STUDY = """
from search.apps import search

def began(*_, **__):
    raise RuntimeError("the search began")

search.Journal = began
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "garbage").write_bytes(b"\xff\xfe is no database")
    np.save(folder / "flat.npy", np.zeros((2, 64), dtype=np.uint8))
    (folder / "my, 'own'" / "model").mkdir(parents=True)
    (folder / "my, 'own'" / "model" / "net.yaml").write_text("_target_: my.Net\nhidden: 4\nspace: {}\n")
    (folder / "my, 'own'" / "experiment").mkdir()
    for name, text in EXPERIMENTS.items():
        (folder / "my, 'own'" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    (folder / "my, 'own'" / "experiment" / "placed.yaml").write_text("# mine\n# @package _global_\nseed: 3\n")
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, tuple[int, str, list[str]]]:
    """What the command answers to each of the mistakes: exit code and standard error."""
    return one_after_another(folder, {name: arguments for name, (arguments, _) in MISTAKES.items()}, before=NO_STUDY)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda name: name.replace(" ", "-"))
def test_a_mistake_is_answered_in_one_line(mistake: str, answers: dict[str, tuple[int, str, list[str]]]) -> None:
    code, said, _ = answers[mistake]
    assert code == 2, said
    assert said.startswith("search: ")
    assert MISTAKES[mistake][1] in said
    assert said.count("\n") == 1


def test_mistakes_leave_nothing_of_a_study_behind(folder: Path, answers: dict[str, tuple[int, str, list[str]]]) -> None:
    left = {path.name for path in folder.rglob("*") if path.is_file() and path.parent.name != ".hydra"}
    made = {"garbage", "flat.npy", "net.yaml", "typo.yaml", "deep.yaml", "half.yaml", "placed.yaml"}
    assert left <= {*made, "search.log"}
