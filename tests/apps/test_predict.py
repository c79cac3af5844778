"""`search stages=[predict]`: a study's champion and a file of new inputs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from search.post import program
from search.post.predictor import Predictor
from search.post.program import export
from search.train.data import digits
from tests.kits.champions import CNN, MLP, averaged, champion_of, dataset_of, lineage_of, prices
from tests.kits.commands import one_after_another, probed, results, search

PREDICT = "stages=[predict]"


@pytest.fixture(scope="module", autouse=True)
def _without_onnx() -> object:
    """Translations take seconds and are not what these tests are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "to_onnx", lambda *_: "no program.onnx: not here")
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose study `digits` has a champion and nothing else, with 5 pictures to predict."""
    folder = tmp_path_factory.mktemp("pictures")
    dataset = dataset_of(digits.load("digits"))
    champion = champion_of(dataset, folder, [MLP, CNN])
    export(champion, lineage_of(champion), folder / "outputs" / "digits" / "champion")
    np.save(folder / "new.npy", dataset.examples.inputs[:5])
    np.save(folder / "scaled.npy", dataset.examples.inputs[:5] / 16)
    np.save(folder / "flat.npy", dataset.examples.inputs[:5].reshape(5, 64))
    np.save(folder / "expected.npy", averaged(champion, dataset.examples.inputs[:5])[0])
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a table, in the study `t`."""
    folder = tmp_path_factory.mktemp("table")
    champion = champion_of(prices(folder), folder, [MLP])
    export(champion, lineage_of(champion), folder / "outputs" / "t" / "champion")
    pd.DataFrame({"colour": ["red", "violet"], "size": [1, None], "id": [7, 8]}).to_csv(folder / "new.csv", index=False)
    pd.DataFrame({"colour": ["red"]}).to_csv(folder / "less.csv", index=False)
    pd.DataFrame({"colour": ["red"], "size": ["much"]}).to_csv(folder / "words.csv", index=False)
    return folder


def test_pictures_are_predicted_into_a_file(pictures: Path) -> None:
    before = sorted((pictures / "outputs" / "digits").rglob("*"))
    said = probed(pictures, PREDICT, "predict.input=new.npy", "predict.output=out.csv")
    assert (said.code, said.errors) == (0, [])
    assert said.output == ["5 predictions of the champion, greedy ensemble, are in out.csv"]
    assert not {"ray", "mlflow"} & set(said.heavy)
    expected = np.load(pictures / "expected.npy")
    read = pd.read_csv(pictures / "out.csv")
    assert read[[f"p_{i}" for i in range(10)]].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert list(read["prediction"]) == list(expected.argmax(axis=1))
    assert sorted((pictures / "outputs" / "digits").rglob("*")) == before


@pytest.mark.slow
def test_without_a_file_to_write_the_first_rows_are_shown(table: Path) -> None:
    shown = search(table, "name=t", PREDICT, "predict.input=new.csv")
    assert shown.splitlines()[0].split() == ["prediction", "spread"]
    assert "the first rows; predict.output=FILE.csv writes all" in shown


@pytest.mark.slow
def test_a_table_is_predicted_into_parquet(table: Path) -> None:
    search(table, "name=t", PREDICT, "predict.input=new.csv", "predict.output=out.parquet")
    expected = Predictor.load(table / "outputs" / "t" / "champion")(pd.read_csv(table / "new.csv"))
    pd.testing.assert_frame_equal(pd.read_parquet(table / "out.parquet"), expected)


@pytest.mark.slow
def test_what_does_not_fit_is_refused_in_one_line(pictures: Path, table: Path) -> None:
    of = "predict.input="
    answers = one_after_another(
        pictures,
        {
            "no input": [PREDICT],
            "beside others": ["stages=[predict,report]", f"{of}new.npy"],
            "no such file": [PREDICT, f"{of}gone.npy"],
            "shape": [PREDICT, f"{of}flat.npy"],
            "scale": [PREDICT, f"{of}scaled.npy"],
            "kind": [PREDICT, f"{of}{table}/new.csv"],
            "no study": [PREDICT, f"{of}new.npy", "name=other"],
            "ending": [PREDICT, f"{of}new.npy", "predict.output=out.txt"],
            "onto itself": [PREDICT, f"{of}new.parquet", "predict.output=new.parquet"],
            "no folder": [PREDICT, f"{of}new.npy", "predict.output=no/out.csv"],
            "no such key": [PREDICT, f"{of}new.npy", "+predict.inptu=1"],
            "column": [PREDICT, f"output_dir={table}/outputs/t", f"{of}{table}/less.csv"],
            "words": [PREDICT, f"output_dir={table}/outputs/t", f"{of}{table}/words.csv"],
        },
    )
    wanted = {
        "no input": "stages=[predict]: runs alone and needs predict.input=FILE",
        "beside others": "stages=[predict]: runs alone",
        "no such file": "predict.input=gone.npy: no such file",
        "shape": "predict.input=flat.npy: inputs have the shape (5, 64); must be (N, 1, 8, 8)",
        "scale": "predict.input=scaled.npy: inputs hold 0.3125; must be whole numbers from 0 to 255, as the data's",
        "kind": "inputs are arrays here; must end in .npy or .npz",
        "no study": "other has no champion yet; stages=[squeeze] makes it",
        "ending": "predict.output=out.txt: must end in .csv or .parquet, or be null",
        "onto itself": "predict.output=new.parquet: is predict.input itself",
        "no folder": "predict.output=no/out.csv: there is no folder no",
        "no such key": "predict.inptu",
        "column": "column size is missing; needed: size, colour",
        "words": "column size: must be numbers (could not convert string to float",
    }
    for name, sentence in wanted.items():
        code, said, _ = answers[name]
        assert code == 2, (name, said)
        assert sentence in said, name
        assert said.count("\n") == 1, name
    assert not (pictures / "outputs" / "other").exists()


@pytest.mark.slow
def test_a_searchs_champion_predicts_with_and_without_mlflow(tmp_path: Path) -> None:
    plain = ("squeeze.longer.trials=0", "squeeze.distill.trials=0")
    short = ("model=mlp", "budget.trials=2", "trainer.epochs=2", "pruner=none", "cluster.workers=1", *plain)
    search(tmp_path, *short, "stages=[search,squeeze]", "tracking=none")
    study = tmp_path / "outputs" / "digits"
    assert results(study)["model"] is None
    np.save(tmp_path / "new.npy", digits.load("digits").inputs[:3])
    search(tmp_path, PREDICT, "predict.input=new.npy", "predict.output=out.csv")
    assert len(pd.read_csv(tmp_path / "out.csv")) == 3
    made = (study / "champion" / "program.pt2").stat().st_mtime_ns
    search(tmp_path, *short, "stages=[squeeze]", "tracking=none")
    assert (study / "champion" / "program.pt2").stat().st_mtime_ns == made, "what is there is not made again"
    search(tmp_path, *short, "stages=[squeeze]")
    assert results(study)["model"] == "models:/digits@champion"
    client = MlflowClient(tracking_uri=f"sqlite:///{study / 'mlflow.db'}")
    (told, *_) = json.loads(client.get_model_version_by_alias("digits", "champion").tags["search.members"])
    tags = client.get_run(told["run"]).data.tags
    assert told["folder"] == f"trials/{int(tags['search.number']):05d}"
