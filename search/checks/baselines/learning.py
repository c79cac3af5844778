"""R17: the training loss goes down, and no less far with a larger model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from search.checks.baselines.pace import in_words, left_out, seconds_per_step
from search.checks.baselines.sampled import others
from search.checks.baselines.short_run import (
    CLEAR,
    MOVES,
    Run,
    better_rate,
    other_rates,
    short_run,
    standard_errors,
    trained,
)
from search.checks.baselines.simple import finds
from search.checks.bench import Bench
from search.checks.check import Check, Found
from search.checks.evidence import Curves
from search.records import CheckVerdict, worst
from search.train.pretrained import node_of

LARGER = 2
"""Times the size of the composed model."""
SIZES = ("width", "hidden", "hidden_size", "hidden_dim", "channels", "units", "num_units", "dim", "d_model", "size")
FARTHER = 5.0
"""A rate is far too low where another one brings the loss so many times as far down."""
WORSE = 0.15
"""Part of the fall by which a larger model may stay behind, as its first weights are others."""
SURE = 4.0
"""Standard errors over chunks of examples at which it is no chance of the examples."""
AGAIN = 2
"""Further first weights with which a larger model must be worse too."""
CLEARLY_LOWER = 0.9


def look(bench: Bench) -> Found:
    """Train for a short while, and with a model of twice the size."""
    run = short_run(bench)
    verdict, says, advice = _fall(bench, run)
    before, after = float(run.before.mean()), float(run.after.mean())
    measured = {"loss_before": before, "loss_after": after, "mini_batches": len(run.losses)}
    measured["parameters"] = sum(parameter.numel() for parameter in run.setup.model.parameters())
    measured["seconds_per_epoch"] = run.seconds_per_epoch
    measured["seconds_per_step"] = seconds_per_step(bench)
    lines = {"composed": _line(run)}
    if verdict is CheckVerdict.PASS:
        larger, note = _larger(bench)
        says += f"; {note}"
        if larger is not None:
            lines["larger"] = _line(larger)
            measured["loss_after_larger"] = float(larger.after.mean())
            if _is_worse_again(bench, run, larger):
                verdict = worst(verdict, CheckVerdict.WARN)
                advice = "a larger model should fit no worse: look at its initial weights, or lower its learning rate"
    return Found(
        verdict=verdict,
        sentence=says,
        advice=advice,
        expected={"constant_prediction": run.constant},
        measured=measured,
        evidence=(
            Curves(
                name="short-run",
                title="training loss of a short run",
                x="mini-batch",
                y="loss",
                lines=lines,
                levels={"constant prediction": run.constant},
            ),
        ),
    )


def _fall(bench: Bench, run: Run) -> tuple[CheckVerdict, str, str]:
    """Return what the training loss says: verdict, sentence, advice."""
    says = _says(bench, run)
    if run.moves and not run.stuck:
        return CheckVerdict.PASS, says, ""
    better = better_rate(bench)
    if better is not None:
        factor, other = better
        lower = float(other.after.mean())
        says_better = f"{says}; at {factor:g} times the learning rate it comes to {lower:.4g}"
        if factor < 1 and not (run.finite and lower > CLEARLY_LOWER * min(float(run.after.mean()), run.constant)):
            verdict = CheckVerdict.WARN if _is_searched(bench, factor) else CheckVerdict.FAIL
            return verdict, says_better, "the learning rate is far too high: lower it (R36 shows a range)"
        stands = run.finite and abs(run.fall) < MOVES * abs(float(run.before.mean()))
        if factor > 1 and stands and other.fall > FARTHER * max(run.fall, 0.0):
            knows = run.before.mean() < CLEARLY_LOWER * run.constant  # a fine-tuning begins low and goes on slowly
            verdict = CheckVerdict.WARN if knows or _is_searched(bench, factor) else CheckVerdict.FAIL
            return verdict, says_better, "the learning rate is far too low: raise it (R36 shows a range)"
    if run.moves:
        return CheckVerdict.PASS, says, ""
    return _still(bench, run, says)


def _still(bench: Bench, run: Run, says: str) -> tuple[CheckVerdict, str, str]:
    """Return what is to be said of a training loss that does not go down, as far as anything can be."""
    if run.finite and run.too_few:
        number = others(run.setup.dataset.examples, run.seen)
        few = f"only {number} of the {len(run.seen)} examples in them are not of the largest class, too few to tell"
        return CheckVerdict.WARN, f"{says}; {few}", "raise preflight.steps to see more of the rare classes"
    if left_out(bench):
        verdict = CheckVerdict.WARN if run.finite or _is_searched(bench, 1.0) else CheckVerdict.FAIL
        return verdict, f"{says}; other learning rates were {left_out(bench)}", "see R36 for the learning rate, and R19"
    if run.finite and (run.certainty >= SURE or run.before.mean() < CLEARLY_LOWER * run.constant):
        return CheckVerdict.WARN, f"{says}, which is little", "look whether the model has anything left to learn"
    lower = [(factor, other) for factor, other in other_rates(bench) if other.moves]
    if lower:
        factor, other = min(lower, key=lambda found: float(found[1].after.mean()))
        at_other = f"at {factor:g} times the learning rate it comes to {other.after.mean():.4g}"
        return CheckVerdict.WARN, f"{says}; {at_other}", "see R36 for the learning rate, and R13 for what is learned"
    tried = "none of the learning rates tried (from a 10,000th to 10,000 times your default)"
    if run.fit >= CLEAR and not np.array_equal(run.before, run.after):
        return CheckVerdict.WARN, f"{says}, though validation shows that something is learned", "see R13 and R20"
    if np.array_equal(run.before, run.after) or finds(bench):
        advice = "look for a bug: parameters that the optimiser is not given, or a loss cut off from the outputs"
        return CheckVerdict.FAIL, f"{says}, and it goes down by {MOVES:.0%} at {tried}", f"{advice}; see R19, R20"
    nothing = "nor do a linear model or the nearest neighbour find anything on validation"
    return (
        CheckVerdict.WARN,
        f"{says}, and it goes down by {MOVES:.0%} at {tried}; {nothing}",
        "see R08; raise preflight.steps",
    )


def _is_searched(bench: Bench, factor: float) -> bool:
    """Tell whether the search has both the composed rate and so many times it: then it finds out by itself."""
    space, rate = bench.settings.get("lr_space"), bench.config["optimizer"].get("lr")
    if space is None or isinstance(rate, bool) or not isinstance(rate, int | float):
        return False
    return all(space[0] <= value <= space[1] for value in (rate, factor * rate))


def _says(bench: Bench, run: Run) -> str:
    number = len(run.losses)
    if not np.isfinite(run.losses).all():
        return f"the training loss became {run.losses[-1]} at mini-batch {number}"
    if not run.finite:
        return f"the setup's predictions became NaN or infinite within {number} mini-batches"
    before, after = float(run.before.mean()), float(run.after.mean())
    return f"the training loss goes from {before:.4g} to {after:.4g} over {in_words(bench, number)}"


def _larger(bench: Bench) -> tuple[Run | None, str]:
    """Return the short run of the larger model, and what to say of it."""
    if node_of(bench.config) is not None:
        return None, "a larger model could not start from the pretrained weights"
    found = larger_model(bench)
    if found is None:
        return None, "preflight.size names the key that makes the model larger; none was found by its name"
    changes, words = found
    if left_out(bench):
        return None, f"a larger model was {left_out(bench)}"
    try:
        larger = trained(bench, changes=changes)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the user's model; the composed one does train
        return None, f"with {words} the model cannot be trained: {type(error).__name__}"
    return larger, f"with {words} to {larger.after.mean():.4g}"


def larger_model(bench: Bench) -> tuple[dict[str, Any], str] | None:
    """Return the change that makes the model larger, and its words; None where no key does."""
    name = bench.settings.get("size")
    if name is None:
        model = bench.config["model"]
        key = next((key for key in model if key in SIZES and _is_size(model[key])), None)
        path = ["model", key] if key else None
    else:
        path = str(name).split(".")
        path = path if path[0] == "model" else ["model", *path]
    value: Any = bench.config
    for part in path or ():
        value = value.get(part) if isinstance(value, Mapping) else None
    if path is None or not _is_size(value):
        return None
    changed: Any = value * LARGER
    for depth in range(len(path) - 1, 1, -1):  # a node is changed as a whole
        node: Any = bench.config
        for part in path[:depth]:
            node = node[part]
        changed = {**node, path[depth]: changed}
    return {"model": {path[1]: changed}}, f"{'.'.join(path)}={value * LARGER}"


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_worse_again(bench: Bench, run: Run, larger: Run) -> bool:
    """Tell whether the larger model is clearly worse, with other first weights too."""
    found = larger_model(bench)
    if found is None or not _is_worse(run, larger):
        return False
    return all(
        _is_worse(trained(bench, key=f"short run {i}"), trained(bench, changes=found[0], key=f"short run {i}"))
        for i in range(AGAIN)
    )


def _is_worse(run: Run, larger: Run) -> bool:
    if not larger.finite:
        return True
    behind = larger.after - run.after
    return bool(behind.mean() > WORSE * run.fall and standard_errors(behind) >= SURE)


def _line(run: Run) -> np.ndarray[Any, Any]:
    return np.stack([np.arange(1, len(run.losses) + 1), run.losses])


CHECK = Check(row="R17", title="training loss goes down", look=look)
