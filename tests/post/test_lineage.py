"""Where a champion comes from, as tags and as a card."""

import json
from dataclasses import replace

import numpy as np
import pytest

from search.post.card import Packaged, card
from search.post.lineage import trial_of
from search.train.data.arrays import Examples
from tests.kits.champions import LINEAGE

EXAMPLES = Examples(
    name="digits",
    inputs=np.zeros((4, 1, 8, 8), dtype=np.uint8),
    targets=np.array([0, 1, 0, 1]),
    task="classification",
    classes=("no", "yes"),
)
PACKAGED = Packaged(
    name="greedy ensemble",
    examples=EXAMPLES,
    networks=["MLP", "CNN"],
    sizes=[100, 2000],
    temperatures=[1.0, 0.5],
    temperature=1.25,
    has_onnx=True,
)


def test_tags_name_the_study_the_data_the_figures_and_each_members_run() -> None:
    tags = LINEAGE.tags()
    assert json.loads(tags["search.members"]) == [
        {"folder": "trials/00000", "weight": 0.333333, "run": "run0"},
        {"folder": "trials/00001", "weight": 0.666667, "run": None},
    ]
    assert tags["search.test"] == "0.94 [0.91, 0.97]"
    assert tags["search.commit"] == "c0ffee"
    assert tags["search.data.digest"] == "0123456789abcdef"
    assert "search.teachers" not in tags
    assert "search.commit" not in replace(LINEAGE, commit=None).tags()


def test_too_many_members_for_a_tag_are_counted() -> None:
    many = {f"trials/{i:05d}": 0.01 for i in range(100)}
    tags = replace(LINEAGE, members=many, teachers=LINEAGE.members).tags()
    assert tags["search.members"] == "100, listed in lineage.json"
    assert len(json.loads(tags["search.teachers"])) == 2
    assert all(len(value) <= 5000 for value in tags.values())


@pytest.mark.parametrize(
    ("folder", "number"),
    [("trials/00017", 17), ("trials/00017/snapshots/2", 17), ("rematch/3/1", 3), ("students/taught", None)],
)
def test_a_members_trial_is_in_its_folders_name(folder: str, number: int | None) -> None:
    assert trial_of(folder) == number


def test_the_card_says_what_it_is_how_good_and_how_to_use_it() -> None:
    text = card(PACKAGED, LINEAGE)
    assert "# mine: greedy ensemble" in text
    assert "| test, 360 examples, opened once | 0.94 [0.91, 0.97] |" in text
    assert "| `trials/00001` | 0.6667 | 0.5 | CNN | 2,000 |  |" in text
    assert "each member's at its own, then all at 1.25" in text
    assert "Inputs: uint8 (N, 1, 8, 8)" in text
    assert "no, yes" in text
    assert "opened 3 times" in card(PACKAGED, replace(LINEAGE, test_looks=3))
    assert "validation" not in card(PACKAGED, replace(LINEAGE, validation=None))
    assert "Distilled from 2 networks" in card(PACKAGED, replace(LINEAGE, teachers=LINEAGE.members))
