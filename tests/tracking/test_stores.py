"""Stores that cannot be used: refused before the search where that shows, else said in one line at its end."""

import time
from pathlib import Path

import pytest

from search.errors import UsageError
from search.records import Started
from search.sweep.journal import Journal
from search.tracking import outbox
from search.tracking.outbox import POSITION, MlflowTracker, delivered
from search.tracking.projection import Projection, store_uri
from search.tracking.tracker import SearchInfo


def test_a_damaged_database_of_the_study_is_named_with_the_way_out(tmp_path: Path) -> None:
    assert store_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "mlflow.db").write_bytes(b"")
    assert store_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "mlflow.db").write_bytes(b"\0" * 100)
    with pytest.raises(UsageError, match=r"mlflow.db: is no SQLite database; delete it, and it is made again from the"):
        store_uri(None, tmp_path)


def test_a_healthy_database_is_taken(store: str, tmp_path: Path) -> None:
    assert store_uri(store, tmp_path) == store


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db"])
def test_a_store_that_does_not_open_is_said_in_one_line(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(outbox, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    journal = Journal(tmp_path, maximize=True)
    journal.append(Started(number=0, params={}, seed=0, time=time.time()))
    info = SearchInfo(uid="u1", name="mine", maximize=True, params={})
    tracker = MlflowTracker(lambda: Projection(uri, "e", tmp_path, info), journal.events, uri, tmp_path)
    said = tracker.finish("FINISHED")
    journal.close()
    assert said is not None
    assert said.startswith("MLflow is away (")
    assert said.endswith("); the same command delivers it later")
    assert "\n" not in said


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]", b"{}", b'{"store": 3}'])
def test_a_damaged_note_of_what_was_delivered_counts_as_none(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / POSITION).write_bytes(damage)
    assert delivered(tmp_path, "http://127.0.0.1:9") is None
