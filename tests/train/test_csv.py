from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import UsageError
from search.train.data.arrays import Examples
from search.train.data.csv import load

TABLE = """\
size,colour,who,price,kind
1.5,red,a,10.5,0
,blue,a,11.25,1
3.0,,b,9.0,1
2.0,red,b,8.5,0
"""


def read(tmp_path: Path, text: str | bytes, **arguments: Any) -> Examples:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(**{"name": "t", "path": str(path), "target": "y", **arguments})


def test_columns_become_inputs_but_for_target_and_dropped(tmp_path: Path) -> None:
    data = read(tmp_path, TABLE, target="price", drop=["who", "kind"])
    assert (data.name, data.task, data.classes, data.num_outputs) == ("t", "regression", (), 1)
    np.testing.assert_array_equal(
        data.inputs, np.array([[1.5, 0, 1], [np.nan, 1, 0], [3.0, 0, 0], [2.0, 0, 1]], dtype=np.float32)
    )
    np.testing.assert_array_equal(data.targets, np.array([10.5, 11.25, 9.0, 8.5], dtype=np.float32))
    assert data.targets.dtype == np.float32
    assert data.kind == "table"
    assert data.table == {"columns": [["size", None], ["colour", ["blue", "red"]]]}


def test_dropped_columns_are_there_for_the_split(tmp_path: Path) -> None:
    data = read(tmp_path, TABLE, target="price", drop=["who"])
    assert set(data.columns) == {"size", "colour", "who", "price", "kind"}
    assert data.columns["who"].tolist() == ["a", "a", "b", "b"]


TARGETS: dict[str, tuple[list[Any], str | None, list[Any], tuple[str, ...]]] = {
    "words": (["no", "yes", "no"], None, [0, 1, 0], ("no", "yes")),
    "truth values": (["True", "False", "True"], None, [1, 0, 1], ("False", "True")),
    "words beside numbers": (["7", "none", "7"], None, [0, 1, 0], ("7", "none")),
    "few whole numbers": ([7, 3, 5], None, [2, 0, 1], ("3", "5", "7")),
    "20 whole numbers": (list(range(20)), None, list(range(20)), tuple(map(str, range(20)))),
    "21 whole numbers": (list(range(21)), None, list(range(21)), ()),
    "fractions": ([0.5, 1.5, 0.5], None, [0.5, 1.5, 0.5], ()),
    "whole numbers said to be a regression": ([7, 3, 5], "regression", [7, 3, 5], ()),
    "fractions said to be classes": ([0.5, 1.5, 0.5], "classification", [0, 1, 0], ("0.5", "1.5")),
}


@pytest.mark.parametrize(("column", "task", "targets", "classes"), TARGETS.values(), ids=TARGETS)
def test_the_target_tells_the_task(
    tmp_path: Path, column: list[Any], task: str | None, targets: list[Any], classes: tuple[str, ...]
) -> None:
    text = "x,y\n" + "".join(f"{i},{value}\n" for i, value in enumerate(column))
    data = read(tmp_path, text, task=task)
    assert data.task == ("classification" if classes else "regression")
    assert data.classes == classes
    assert data.targets.tolist() == targets
    assert data.targets.dtype == (np.int64 if classes else np.float32)


REFUSED: dict[str, tuple[str | bytes, dict[str, Any], str, str]] = {
    "no target column": (TABLE, {}, "data.target=y", "allowed: size, colour, who, price, kind"),
    "no dropped column": (TABLE, {"target": "price", "drop": ["wo"]}, "data.drop=wo", "allowed: size, colour"),
    "gaps in the target": (TABLE, {"target": "size"}, "data.target=size", "1 rows have no value"),
    "nothing left": ("a,y\n1,2\n3,4\n", {"drop": ["a"]}, "data.path=", "no column left beside the target y"),
    "one class": ("a,y\n1,u\n3,u\n", {}, "data.target=y", "the targets are of one class only, u"),
    "words as numbers": ("a,y\n1,u\n3,v\n", {"task": "regression"}, "data.target=y", "data.task=classification"),
    "too many words": (
        "a,y\n" + "".join(f"w{i},{i % 2}\n" for i in range(101)),
        {},
        "column a: 101 different words",
        "data.drop=[a]",
    ),
    "an infinite target": ("a,y\n1,inf\n3,4.5\n", {}, "data", "targets must be finite"),
    "empty": (b"", {}, "data.path=", "not a readable CSV file"),
    "no rows": ("a,y\n", {}, "data.path=", "has no rows"),
    "not text": (b"a,y\n\xff\xfe,1\n", {}, "data.path=", "not a readable CSV file"),
    "not a table": ("a,y\n1,2\n1,2,3,4\n", {}, "data.path=", "not a readable CSV file"),
}


@pytest.mark.parametrize(("text", "arguments", "key", "allowed"), REFUSED.values(), ids=REFUSED)
def test_a_table_that_cannot_be_learnt_from_is_refused(
    tmp_path: Path, text: str | bytes, arguments: dict[str, Any], key: str, allowed: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        read(tmp_path, text, **arguments)
    assert key in str(refusal.value)
    assert allowed in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.path=.*gone\.csv: no such file"):
        load("t", str(tmp_path / "gone.csv"), "y")


def test_the_digest_changes_with_any_value(tmp_path: Path) -> None:
    one, again, inputs, targets = (
        read(tmp_path, text, target="price").digest()
        for text in (TABLE, TABLE, TABLE.replace("3.0,", "3.5,"), TABLE.replace("9.0", "9.5"))
    )
    assert one == again
    assert len({one, inputs, targets}) == 3
    assert len(one) == 16


MISMATCHED: dict[str, tuple[dict[str, Any], str]] = {
    "fewer targets": ({"targets": np.zeros(2, dtype=np.int64)}, "3 inputs but 2 targets"),
    "targets of two dimensions": ({"targets": np.zeros((3, 2), dtype=np.int64)}, "one dimension"),
    "words as classes": ({"targets": np.array(["a", "b", "a"])}, "int64 indices"),
    "numbers as classes": ({"targets": np.zeros(3, dtype=np.float32)}, "int64 indices"),
    "a class without a name": ({"targets": np.array([0, 1, 2])}, "0 to 1"),
    "a class below the first": ({"targets": np.array([0, 1, -1])}, "0 to 1"),
    "one name": ({"classes": ("a",)}, "at least two names"),
    "targets that are no numbers": (
        {"task": "regression", "classes": (), "targets": np.array([0.0, np.nan, 1.0])},
        "finite numbers",
    ),
}


@pytest.mark.parametrize(("changes", "reason"), MISMATCHED.values(), ids=MISMATCHED)
def test_arrays_that_do_not_belong_together_are_no_examples(changes: dict[str, Any], reason: str) -> None:
    fitting: dict[str, Any] = {
        "name": "made",
        "inputs": np.zeros((3, 2)),
        "targets": np.array([0, 1, 0]),
        "task": "classification",
        "classes": ("a", "b"),
    }
    Examples(**fitting)
    with pytest.raises(UsageError, match=rf"^data: .*{reason}"):
        Examples(**{**fitting, **changes})


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((2,), "table"), ((2, 3), "series"), ((1, 2, 3), "picture"), ((1, 2, 3, 4), "other"), ((), "other")],
)
def test_the_dimensions_of_an_input_tell_its_kind(shape: tuple[int, ...], kind: str) -> None:
    inputs = np.zeros((2, *shape))
    assert Examples(name="m", inputs=inputs, targets=np.zeros(2), task="regression").kind == kind
