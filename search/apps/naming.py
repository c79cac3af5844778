"""Names of folders made from overrides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

_LONGEST = 100
_NOT_IN_NAMES = (
    "budget.",
    "stages=",
    "resume=",
    "output_dir=",
    "name=",
    "cluster",
    "tracking",
    "trial=",
    "ablate=",
    "ablation.",
    "data_curve.",
    "changes.",
)
"""Overrides that do not make another study: a longer budget goes on in the same folder."""


def job_folder(overrides: Sequence[str]) -> str:
    """Return a folder name that tells the jobs of a multirun apart by their overrides."""
    kept = sorted(o.lstrip("+") for o in overrides if not _where(o).startswith(_NOT_IN_NAMES))
    text = ",".join(kept) or "default"
    slug = re.sub(r"[^\w.=+,\-]", "_", text)
    if slug == text and len(slug) <= _LONGEST:
        return slug
    return f"{slug[:_LONGEST]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _where(override: str) -> str:
    """Return an override from its place in the configuration on: `a.model=cnn` of `+model@a.model=cnn`."""
    return re.sub(r"^\w+@", "", override.lstrip("+~"))


def study_name(*, _root_: DictConfig) -> str:
    """Return the name of a study that was given none: the objective's, or the data's."""
    for key in ("objective._target_", "data.name", "data._target_"):
        if named := OmegaConf.select(_root_, key):
            return str(named).rpartition(".")[2] if key.endswith("_target_") else str(named)
    return "search"


def register_resolvers() -> None:
    """Make `${search.job_folder:...}` and `${search.study_name:}` known to configurations."""
    OmegaConf.register_new_resolver("search.job_folder", job_folder, replace=True)
    OmegaConf.register_new_resolver("search.study_name", study_name, replace=True)
