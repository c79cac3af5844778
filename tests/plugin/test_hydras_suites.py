"""Hydra's own suites for what runs jobs, with every job named (`sampler=grid`); there are no batches to test."""

import pytest
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite

SWEEPER = ["hydra/sweeper=ray_optuna", "hydra.sweeper.sampler=grid", "hydra.sweeper.n_jobs=1"]


@pytest.mark.slow
@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", SWEEPER)])
class TestJobs(LauncherTestSuite):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(("task_launcher_cfg", "extra_flags"), [({}, ["-m", *SWEEPER])])
class TestApplications(IntegrationTestSuite):
    pass
