"""The fixtures that Hydra's own suites ask for."""

import pytest
from hydra.core.singleton import Singleton
from hydra.extra.pytest_plugin import hydra_restore_singletons as hydra_restore_singletons
from hydra.extra.pytest_plugin import hydra_sweep_runner as hydra_sweep_runner
from hydra.version import VersionBase


@pytest.fixture(autouse=True)
def as_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the version whose behaviour other tests asked for: without one, jobs change into their folders."""
    monkeypatch.delitem(Singleton._instances, VersionBase, raising=False)
