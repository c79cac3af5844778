"""A check of several parts, and the passes through a network that they compare."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from search.checks.check import Found, skipped
from search.checks.evidence import Evidence, Sheet
from search.records import CheckVerdict, worst
from search.train import steps

PASS, SKIP, WARN, FAIL = CheckVerdict.PASS, CheckVerdict.SKIP, CheckVerdict.WARN, CheckVerdict.FAIL
_NOISE = 0.02
"""Standard deviation of what replaces weights that start at zero: that of many initialisations."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several things that a check looks at; `words` are a clause of its sentence."""

    what: str
    verdict: CheckVerdict
    words: str
    advice: str = ""


def found_of(
    parts: Sequence[Part],
    *,
    passed: str,
    measured: Mapping[str, float] | None = None,
    evidence: tuple[Evidence, ...] = (),
) -> Found:
    """Return what the parts found together: the sentence names what is wrong, or else is `passed`.

    Parts that could not be looked at do not change the verdict, unless it is all of them.
    """
    looked = [part for part in parts if part.verdict is not SKIP]
    unseen = [part.words for part in parts if part.verdict is SKIP]
    if not looked:
        return skipped("; ".join(unseen) or "there is nothing to look at")
    verdict = worst(*(part.verdict for part in looked))
    told = sorted((part for part in looked if part.verdict is not PASS), key=lambda part: part.verdict is WARN)
    sentence = "; ".join(part.words for part in told) or passed
    rows = [*told, *(part for part in parts if part not in told)]
    sheet = Sheet(
        name="parts",
        columns=("what", "verdict", "found"),
        rows=tuple((part.what, part.verdict.value, part.words) for part in rows),
    )
    return Found(
        verdict=verdict,
        sentence=sentence + (f" (not looked at: {'; '.join(unseen)})" if unseen and not told else ""),
        advice="; ".join(dict.fromkeys(part.advice for part in told if part.advice)),
        measured=measured or {},
        evidence=(*evidence, sheet),
    )


def awaken(model: nn.Module, seed: int) -> None:
    """Replace weights that start at zero by small noise: behind them nothing could be seen of the inputs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.is_floating_point() and not weights.any():
                weights.copy_(torch.randn(weights.shape, generator=generator) * _NOISE)


def outputs_of(model: nn.Module, inputs: Tensor, *, seed: int = 0) -> Tensor:
    """Return the outputs (N, C) in the mode that the model is in; its buffers stay what they were."""
    with torch.no_grad(), buffers_kept(model):
        steps.seed_everything(seed)
        outputs: Tensor = model(inputs)
        return outputs


@contextlib.contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Put the model's buffers back where they were, batch norm's statistics above all."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in kept and buffer.shape == kept[name].shape:
                    buffer.copy_(kept[name])


def precise() -> Any:
    """Return a context of full precision, in which recurrent layers can be differentiated in evaluation mode too."""
    return torch.backends.cudnn.flags(enabled=False, allow_tf32=False)


def distance(some: Tensor, others: Tensor) -> float:
    """Return the largest difference between two arrays of one shape over the largest value of the second."""
    largest = float(others.abs().max())
    return float((some - others).abs().max()) / max(largest, 1e-30)


def batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Return torch's batch norms by name, and layers of a user's that call themselves one."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) or "batchnorm" in type(module).__name__.lower().replace("_", "")
    }


def tracked_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch norms that keep running statistics."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.running_mean is not None}


def listed(names: Sequence[str]) -> str:
    """Return names of layers as words: the first three, and how many more."""
    short = [name.removeprefix("network.") or "the network" for name in names]
    return ", ".join(short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
