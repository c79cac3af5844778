from pathlib import Path

import pytest

from search.config.inside import require_inside
from search.errors import UsageError

INSIDE = {
    "a folder": "sweep/a",
    "a folder in a folder": "sweep/a/b",
    "the folder itself": "sweep",
    "there and back": "sweep/a/../b",
    "dots in a name": "sweep/..a",
    "a link that stays": "sweep/near/a",
}
OUTSIDE = {
    "above": "sweep/..",
    "beside": "sweep/../evil",
    "far above": "sweep/../../../../../../../../evil",
    "by way of a folder": "sweep/a/../../evil",
    "a longer name": "sweep-and-more",
    "absolute": "/evil",
    "a link that leaves": "sweep/far/a",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sweep" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sweep" / "near").symlink_to(tmp_path / "sweep" / "a")
    (tmp_path / "sweep" / "far").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("place", INSIDE.values(), ids=INSIDE)
def test_a_folder_inside_is_returned_as_it_is_on_disk(folder: Path, place: str, absolute: bool) -> None:
    given = folder / place if absolute else Path(place)
    assert require_inside(given, "sweep") == given.resolve()


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("place", OUTSIDE.values(), ids=OUTSIDE)
def test_a_folder_outside_is_refused_in_one_line(folder: Path, place: str, absolute: bool) -> None:
    given = folder / place if absolute else Path(place)
    with pytest.raises(UsageError) as refused:
        require_inside(given, folder / "sweep")
    said = str(refused.value)
    assert said == f"hydra.sweep.subdir='{given}': leads to '{given.resolve()}'; must stay inside '{folder / 'sweep'}'"


def test_the_error_names_the_setting() -> None:
    with pytest.raises(UsageError, match=r"^mine='evil\\nfile': leads"):
        require_inside("evil\nfile", "sweep", key="mine")


def test_a_sweep_folder_that_is_a_link_is_where_it_leads(folder: Path) -> None:
    assert require_inside("sweep/near/b", "sweep/near") == folder / "sweep" / "a" / "b"


def test_nothing_is_made(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    require_inside("new/a", "new")
    with pytest.raises(UsageError):
        require_inside("new/../evil", "new")
    assert sorted(folder.rglob("*")) == before
