"""The sweep of a Hydra application: its jobs on the engine that searches are run by."""

from search.apps.sweeper.sweep import sweep as sweep
