"""The champion for other runtimes: ONNX, where its packages are installed and its operators have a translation."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from search.files import no_room
from search.post.quiet import silence

FILE = "program.onnx"
_PACKAGES = ("onnx", "onnxscript")


def to_onnx(program: torch.export.ExportedProgram, predictions: str, folder: Path) -> str | None:
    """Write the program as `program.onnx` into `folder`, or return why there is none.

    Its input is called `inputs`, float32 (N, *shape), its outputs as `predictions` says, and `spread` (N,). Weights
    above 2 GiB stand in a file of their own beside it.
    """
    if absent := [name for name in _PACKAGES if find_spec(name) is None]:
        return f"no {FILE}: the package {absent[0]} is not installed (pip install 'search[onnx]')"
    try:
        with silence():
            translated = torch.onnx.export(
                program, input_names=["inputs"], output_names=[predictions, "spread"], dynamo=True, verbose=False
            )
            assert translated is not None
            translated.save(folder / FILE)
    except Exception as error:  # a translation fails in many ways; the PyTorch program is there all the same
        if no_room(error):
            raise
        for part in folder.glob(f"{FILE}*"):
            part.unlink()
        return f"no {FILE}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None
