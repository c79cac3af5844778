"""Whose command it was, and of which commit."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def source_tags() -> Mapping[str, str]:
    """Return commit and state of the checkout that the user stands in, as MLflow names them."""

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    tags = {
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "mlflow.source.git.branch": git("branch", "--show-current")}
        tags["mlflow.source.git.dirty"] = str(bool(git("status", "--porcelain"))).lower()
    return tags


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
