"""The stored judgement: read as it was written, or said to be damaged."""

from pathlib import Path

import pytest

from search.errors import UsageError
from search.post.results import FILE, Contender, Figure, Results

FIGURE = Figure(value=0.9, low=0.8, high=1.0)
RESULTS = Results(
    metric="accuracy",
    maximize=True,
    made_from="x",
    test_looks=1,
    test_size=10,
    champion="single best",
    contenders=(Contender(name="single best", members={"trials/00001": 1.0}, validation=FIGURE, test=FIGURE),),
)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert Results.load(tmp_path) is None
    RESULTS.save(tmp_path)
    assert Results.load(tmp_path) == RESULTS


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]", b"{}", b'{"contenders": [3]}', b'{"metric": "acc'])
def test_damaged_results_are_named_with_the_way_out(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(damage)
    with pytest.raises(UsageError, match=r"results.json: damaged; delete it, and the same command makes it again"):
        Results.load(tmp_path)
