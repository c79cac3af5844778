"""The fixtures that Hydra's own suites ask for."""

from hydra.extra.pytest_plugin import hydra_restore_singletons as hydra_restore_singletons
from hydra.extra.pytest_plugin import hydra_sweep_runner as hydra_sweep_runner
