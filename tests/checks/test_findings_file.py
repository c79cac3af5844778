import json
from pathlib import Path
from types import MappingProxyType

import pytest

from search.checks.findings import FILE, from_plain, load, save, to_plain
from search.records import CheckVerdict, Finding

PLAIN = Finding(row="R11", title="loss", verdict=CheckVerdict.PASS, sentence="it is 2.3")
FULL = Finding(
    row="R11",
    title="loss at initialisation",
    verdict=CheckVerdict.FAIL,
    sentence='the loss is 9.2;\n "expected" is 2.3 \\ 模型 \ud800',
    subject="model=cnn",
    expected={"loss": 2.302585092994046},
    measured={"loss": 9.2, "steps": 3, "largest": float("inf")},
    evidence=("R11-loss.npz", "R11-all.csv"),
    advice="lower the scale",
)


@pytest.mark.parametrize("finding", [PLAIN, FULL], ids=["the least", "all fields"])
def test_a_finding_comes_back_as_it_was(tmp_path: Path, finding: Finding) -> None:
    save(finding, tmp_path)
    again = load(tmp_path)
    assert again == finding
    assert isinstance(again.verdict, CheckVerdict)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("verdict", CheckVerdict)
def test_each_verdict_comes_back(verdict: CheckVerdict) -> None:
    finding = Finding(row="R01", title="t", verdict=verdict, sentence="s")
    assert from_plain(to_plain(finding)) == finding


def test_numbers_may_stand_in_any_mapping(tmp_path: Path) -> None:
    save(Finding(**{**vars(FULL), "measured": MappingProxyType({"loss": 9.2})}), tmp_path)
    assert load(tmp_path).measured == {"loss": 9.2}


def test_saving_again_replaces_the_finding(tmp_path: Path) -> None:
    save(FULL, tmp_path)
    save(PLAIN, tmp_path)
    assert load(tmp_path) == PLAIN


def test_where_none_was_written_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path)


def without(key: str) -> dict[str, object]:
    return {name: value for name, value in to_plain(FULL).items() if name != key}


WRONG: dict[str, object] = {
    "a list": [],
    "nothing": None,
    "a word": "pass",
    "no verdict": without("verdict"),
    "no title": without("title"),
    "no evidence": without("evidence"),
    "another verdict": {**to_plain(FULL), "verdict": "fine"},
    "a field too many": {**to_plain(FULL), "colour": "red"},
    "a sentence that is none": {**to_plain(FULL), "sentence": 3},
    "evidence in a number": {**to_plain(FULL), "evidence": 5},
    "evidence in a word": {**to_plain(FULL), "evidence": "abc"},
    "evidence that is no name": {**to_plain(FULL), "evidence": [1]},
    "numbers in a list": {**to_plain(FULL), "expected": [1.0]},
    "numbers in words": {**to_plain(FULL), "measured": {"loss": "9.2"}},
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_what_is_no_finding_is_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="not a finding"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"], ids=["empty", "cut off", "no text"])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError):
        load(tmp_path)
