"""Mistakes on the command line: one line, exit code 2, before anything heavy is imported."""

import subprocess
from pathlib import Path

import pytest

from tests.kits.commands import command, environment, one_after_another, probed

MISTAKES = {
    "unknown key": (
        ["trainer.epoch=3"],
        "trainer.epoch: no such key; did you mean epochs? allowed: epochs,",
    ),
    "unknown top-level key": (["foo=1"], "foo: no such key; allowed: name, seed, stages"),
    "unknown option": (["model=rnn"], "model=rnn: no such option; allowed: cnn, gru, linear, mlp, resnet, transformer"),
    "wrong type": (
        ["trainer.epochs=many"],
        "trainer.epochs=many; Value 'many' of type 'str' could not be",
    ),
    "malformed override": (["a=[b"], "no viable alternative at input '[b'"),
    "key of an unset group": (["model.width=3"], "model.width: model is None; name an option first, e.g. model=..."),
    "unknown stage": (
        ["stages=[serch]"],
        "stages: serch does not exist; did you mean search? allowed: inspect",
    ),
    "train beside others": (["stages=[search,train]", "trial=1"], "stages=[train]: runs alone and needs trial=N"),
    "train without trial": (["stages=[train]"], "stages=[train]: runs alone and needs trial=N"),
    "preview beside others": (["stages=[preview,search]"], "stages=[preview]: runs alone"),
    "low above high": (["optimizer.space.lr.low=1"], "optimizer.space.lr: low=1 lies above high=0.01"),
    "log at zero": (["optimizer.space.lr.low=0"], "optimizer.space.lr: log needs low above 0, not low=0"),
    "empty choice": (
        ["choose.model.mlp.space.width.choices=[]"],
        "choose.model.mlp.space.width.choices=[]: must be",
    ),
    "space without key": (["+trainer.space.epoch={low: 1, high: 2}"], "trainer.space.epoch: trainer has no key epoch"),
    "space of a hidden option": (
        ["+choose.model.cnn.space.depth={low: 1, high: 2}"],
        "choose.model.cnn.space.depth: choose.model.cnn has no key depth; allowed: channels, blocks",
    ),
    "unknown field": (
        ["+optimizer.space.lr.hi=3"],
        "optimizer.space.lr.hi: no such field; allowed: choices",
    ),
    "choice of an unknown option": (
        ["choose.model=[mlp,rnn]"],
        "model=rnn: no such option; allowed: cnn, gru, linear, mlp, resnet, transformer",
    ),
    "choice that is no list": (["choose.model=mlp"], "choose.model=mlp: must be a list of options"),
    "choice of what is no parameter": (["choose.data=[digits]"], "choose.data: cannot be a parameter; allowed: model,"),
    "group at null": (["model=null"], "model=null: names no option; leave it out, or name one, e.g. model=..."),
    "named and chosen": (["model=mlp", "choose.model.cnn.kernel=5"], "model=... takes the place of choose.model"),
    "missing value": (["data=csv", "data.target=y"], "data.path: must be given"),
    "budget below one": (["budget.trials=0"], "budget.trials=0: must be at least 1"),
    "hours at zero": (["budget.hours=0"], "budget.hours=0.0: must be above 0"),
    "unknown metric": (["metric.name=f1"], "metric.name=f1: must be one of null, accuracy, loss, rmse, mae, r2"),
    "unknown mode": (["metric.mode=best"], "metric.mode=best: must be one of null, max, min"),
    "unknown device": (["device=gpu"], "device=gpu: must be auto, cpu, cuda or cuda:<number>"),
    "fractions": (["split.fractions=[0.5,0.5]"], "split.fractions=[0.5, 0.5]: must be three positive numbers"),
    "two ways to order": (["split.group=a", "split.time=b"], "split.group=a: cannot be combined with split.time=b"),
    "name of a folder": (["name=a/b"], "name=a/b: must be 1 to 120 letters"),
    "name that climbs": (["name=.."], "name=..: must be 1 to 120 letters"),
    "rungs": (["pruner.rungs=[0.5,0.2]"], "pruner.rungs=[0.5, 0.2]: must be rising fractions"),
    "eta": (["pruner.eta=1"], "pruner.eta=1: must be at least 2"),
    "resume": (["resume=maybe"], "resume=maybe: must be one of auto, must, never"),
    "grid over a continuum": (["sampler=grid"], "sampler=grid: model.mlp.dropout is continuous; give it choices=[...]"),
    "enqueue outside": (["enqueue=[{model: rnn}]"], "enqueue: model=rnn lies outside its space (one of mlp, cnn)"),
    "enqueue unknown": (["enqueue=[{speed: 3}]"], "enqueue: speed is no parameter of that trial; allowed: model"),
    "mix": (["squeeze.distill.mix=2"], "squeeze.distill.mix=2.0: must lie in 0 to 1"),
    "cluster without address": (["cluster=existing"], "cluster.address: must be given"),
    "file store": (["tracking.uri=mlruns"], "tracking.uri=mlruns: MLflow 3 keeps runs in a database"),
    "under multirun": (["-m", "trainer.epoch=3,4"], "trainer.epoch: no such key; did you mean epochs?"),
    "flags that exclude each other": (["-m", "--cfg=job"], "Only one of --run, --multirun, --cfg, --info"),
    "no folder to write to": (["output_dir=/proc/nowhere"], "output_dir: /proc/nowhere cannot be written"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """What one process answers to all of them: exit code, standard error, heavy modules imported so far."""
    return one_after_another(
        tmp_path_factory.mktemp("mistakes"), {name: words for name, (words, _) in MISTAKES.items()}
    )


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda name: name.replace(" ", "-"))
def test_a_mistake_is_answered_in_one_line(mistake: str, answers: dict[str, tuple[int, str, list[str]]]) -> None:
    code, said, heavy = answers[mistake]
    assert said.startswith("search: ")
    assert MISTAKES[mistake][1] in said
    assert said.count("\n") == 1
    assert (code, heavy) == (2, [])


@pytest.mark.parametrize("mistake", ["unknown key", "unknown stage", "flags that exclude each other"])
def test_a_process_of_its_own_answers_alike(mistake: str, tmp_path: Path) -> None:
    arguments, expected = MISTAKES[mistake]
    said = probed(tmp_path, *arguments)
    assert said.errors[-1].startswith("search: ")
    assert expected in said.errors[-1]
    assert (said.code, len(said.errors), said.heavy) == (2, 1, [])


def test_every_job_of_a_multirun_is_answered(tmp_path: Path) -> None:
    said = probed(tmp_path, "-m", "seed=1,2", "device=gpu")
    assert [line for line in said.errors if line.startswith("search: device=gpu")] == said.errors
    assert (said.code, len(said.errors), said.heavy) == (2, 2, [])


LOOKING_AROUND = {
    "help": (["--help"], "search stages=[preview]"),
    "configuration": (["--cfg", "job"], "name: ${search.study_name:}"),
    "configuration of a choice": (["--cfg", "job", "choose.model=[linear]"], "  model:"),
    "info": (["--info"], "Hydra 1.3"),
    "defaults": (["--info", "defaults"], "Defaults List"),
    "completion": (["-sc", "install=bash"], "hydra_bash_completion()"),
}


@pytest.mark.parametrize("name", LOOKING_AROUND, ids=lambda name: name.replace(" ", "-"))
def test_looking_around_imports_nothing_heavy_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    arguments, expected = LOOKING_AROUND[name]
    said = probed(tmp_path, *arguments)
    assert (said.code, said.errors, said.heavy) == (0, [], [])
    assert any(expected in line for line in said.output)
    assert list(tmp_path.iterdir()) == []


def test_help_fits_on_a_screen(tmp_path: Path) -> None:
    lines = probed(tmp_path, "--help").output
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("flag", ["--help", "--info", "--cfg=job"])
def test_a_reader_that_leaves_is_no_mistake(flag: str, unbuffered: str, tmp_path: Path) -> None:
    own = {**environment(), "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(
        command(*flag.split("=")), cwd=tmp_path, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == ("", 0)
