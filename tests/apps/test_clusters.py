"""Ray for as long as the program runs: one for all searches that want the same."""

import os

import pytest

from search.apps.clusters import Clusters
from search.config.schema import Cluster
from search.sweep import ray_cluster

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Started:
    """Stands for a Ray that was started."""

    said: list[str]

    def __init__(self, *_: object) -> None:
        self.said.append(f"start {os.environ.get(VISIBLE)}")

    def close(self) -> None:
        self.said.append("close")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(Started, "said", [], raising=False)
    monkeypatch.setattr(ray_cluster, "RayCluster", Started)
    monkeypatch.delenv(VISIBLE, raising=False)
    return Started.said


LOCAL = Cluster(kind="local", address=None, cpus=None, gpus=None)


def test_searches_that_want_the_same_share_one(said: list[str]) -> None:
    clusters = Clusters()
    assert clusters.get(LOCAL, None) is clusters.get(LOCAL, None)
    clusters.close()
    clusters.close()
    assert said == ["start None", "close"]


def test_another_kind_ends_the_one_before(said: list[str]) -> None:
    clusters = Clusters()
    clusters.get(LOCAL, None)
    clusters.get(Cluster(kind="local", address=None, cpus=1, gpus=None), None)
    clusters.close()
    assert said == ["start None", "close", "start None", "close"]


def test_which_gpus_one_search_sees_is_nothing_to_the_next(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = Clusters()
    clusters.get(LOCAL, "1")
    clusters.get(LOCAL, None)
    clusters.close()
    assert said == ["start 1", "close", "start None", "close"]
    assert VISIBLE not in os.environ
    monkeypatch.setenv(VISIBLE, "0,1")
    clusters.get(LOCAL, "1")
    clusters.close()
    assert os.environ[VISIBLE] == "0,1"
