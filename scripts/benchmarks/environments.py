"""The peers' environments: one virtual environment each, made once, kept apart from ours."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

_PEERS = Path(__file__).parent / "peers"
_STAMP = "installed"


def python_of(peer: str, console: Console) -> Path:
    """Return the Python in which the peer's pinned packages (`peers/<peer>.txt`) are; install them where needed."""
    pins = _PEERS / f"{peer}.txt"
    folder = cache() / peer
    python = folder / "bin" / "python"
    wanted = hashlib.blake2b(pins.read_bytes() + sys.version.encode(), digest_size=8).hexdigest()
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    console.print(f"installing {peer} into {folder} (once; a few minutes) ...")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _call([sys.executable, "-m", "venv", str(folder)])
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([*install, "--requirement", str(pins)])
    stamp.write_text(wanted)
    return python


def run_peer(peer: str | None, script: str, settings: Mapping[str, Any], console: Console, *, seconds: float) -> Any:
    """Run `peers/<script>` in the peer's environment (None: ours); return what it wrote as JSON to a file.

    The script's arguments are a file with its settings and the file to write. Raises RuntimeError with the end of
    its output where it fails or takes longer than `seconds`.
    """
    python = Path(sys.executable) if peer is None else python_of(peer, console)
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        told, said = Path(folder) / "settings.json", Path(folder) / "result.json"
        told.write_text(json.dumps(settings))
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        environment |= {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(python), str(_PEERS / script), str(told), str(said)],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.kill()
        if code != 0 or not said.exists():
            end = log.read_text(errors="replace")[-2000:]
            why = f"took longer than {seconds:g} s" if code is None else f"ended with {code}"
            raise RuntimeError(f"{peer or script} {why}:\n{end}")
        return json.loads(said.read_text())


def cache() -> Path:
    """Return the folder for what benchmarks keep."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "search-bench"


def _call(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ... failed:\n{done.stdout[-2000:]}")
