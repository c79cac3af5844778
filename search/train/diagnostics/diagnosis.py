"""What ails a run, in plain words: from its table of layers and its losses. Limits are explained where they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from search.train.diagnostics.course import Course, Signs
from search.train.diagnostics.non_finite import TOO_HIGH
from search.train.diagnostics.table import LayerTable

NOT_FINITE = "not finite"
EXPLODING = "exploding gradients"
NOT_NORMALISED = "activations not normalised"
REGULARISED = "too much regularisation"
DEAD = "dead ReLU"
RATE_HIGH = "learning rate too high"
VANISHING = "vanishing gradients"
RATE_LOW = "learning rate too low"
UNDERFITS = "underfits"
OVERFITS = "overfits"
TAGS = (NOT_FINITE, EXPLODING, NOT_NORMALISED, REGULARISED, DEAD, RATE_HIGH, VANISHING, RATE_LOW, UNDERFITS, OVERFITS)
"""All words there are, the graver ones first."""

_EXPLODED = 300.0
"""Times the loss: healthy networks begin at 0.03 to 13 and stay under 100, recurrent ones with weights that are too
large begin at millions."""
_EXPLODED_LATER = 1000.0
_GROWTH, _STD = 5.0, (0.1, 10.0)
"""The recipe wants 0.5 to 2; what initialisation is right for stays within 0.3 to 3 through eight layers."""
_DEAD, _ALIVE = 0.5, 0.2
_ROWS = 4
"""A unit may well be silent on three batches."""
_STUCK = 0.8
"""Of outputs that are saturated; trained recurrent networks may well have half of them there."""
_VANISHED = 1e-3
_COLLAPSED = 0.05
_WORSE = 1.5
_NOTHING_LEARNED = 0.7
_RESTLESS = 0.02
"""About 1e-3 is healthy; a training that has learned something may have more and be well."""
_STOOD_STILL, _LEFT = 0.1, 0.08
"""Healthy trainings, however short, come to 0.12 at least; a hundredth of the right rate to 0.07."""
_ROSE, _ROSE_BY = 0.15, 1.25
_ROSE_NATS, _ROSE_VARIANCES = 100.0, 10.0
"""By how much over all validation examples together: a dozen that are certain and wrong, or 10 that are missed by the
targets' spread more than before. What a split of thirty examples shows may be chance."""
_GAP, _POOR = 0.25, 0.15


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing that ails a run: a tag of `TAGS`, a sentence with the numbers, and those numbers by name."""

    tag: str
    sentence: str
    figures: Mapping[str, float]


def diagnose(table: LayerTable, course: Course) -> tuple[Diagnosis, ...]:
    """Return what ails a run, the graver first; nothing for one that is healthy, or was cut short before it showed.

    What follows from another thing is left out: weights that do not move are no sign of a low rate where all units are
    dead.
    """
    signs = Signs(table, course)
    found: dict[str, Diagnosis] = {}
    for rule in _RULES:
        diagnosis = rule(signs, found)
        if diagnosis is not None:
            found[diagnosis.tag] = diagnosis
    return tuple(sorted(found.values(), key=lambda diagnosis: TAGS.index(diagnosis.tag)))


def tags_of(diagnoses: tuple[Diagnosis, ...]) -> str:
    """Return the tags in one line; an empty one for a healthy run."""
    return "; ".join(diagnosis.tag for diagnosis in diagnoses)


_Found = Mapping[str, Diagnosis]
_Rule = Callable[[Signs, _Found], Diagnosis | None]


def _not_finite(signs: Signs, _: _Found) -> Diagnosis | None:
    failure = signs.course.failure
    return Diagnosis(tag=NOT_FINITE, sentence=failure, figures={}) if failure else None


def _exploding(signs: Signs, _: _Found) -> Diagnosis | None:
    """Judge by weights that little has moved yet; of recurrent layers, in which it may come later, by all rows.

    The first row with a gradient counts: the steps before it were left out, because float16's overflowed.
    """
    if not signs.pulls.size:
        return None
    pulls = np.nan_to_num(signs.pulls, nan=0.0, posinf=np.inf)
    begun = int((~np.isnan(signs.pulls)).any(axis=1).argmax())
    first, later = pulls[begun], np.where(signs.recurrent & ~_diverged(signs), pulls, 0.0).max(axis=0)
    if first.max() <= _EXPLODED and later.max() <= _EXPLODED_LATER:
        return None
    if _grows(signs) and not signs.recurrent.any():
        return None  # activations that grow from layer to layer are the cause, and said
    layer = int(first.argmax()) if first.max() > _EXPLODED else int(later.argmax())
    size = float(max(first[layer], later[layer]))
    gradient = float(np.nanmax(signs.table.of("gradient_norm")[:, layer]))
    return Diagnosis(
        tag=EXPLODING,
        sentence=(
            f"the gradient of {_name(signs, layer)} reaches a norm of {gradient:.2g}, {size:.1g} times the loss for a "
            "change of its weights by themselves (healthy: under 100); clip it, or begin with smaller weights"
        ),
        figures={"gradient_norm": gradient, "relative_gradient": size},
    )


def _not_normalised(signs: Signs, found: _Found) -> Diagnosis | None:
    if not _grows(signs) or EXPLODING in found:
        return None
    first, last = float(signs.depth[0]), float(signs.depth[-1])
    return Diagnosis(
        tag=NOT_NORMALISED,
        sentence=(
            f"the outputs' standard deviation goes from {first:.2g} in the first layer to {last:.2g} in the last "
            "hidden one before training (healthy: 0.5 to 2); initialise for the activation, or normalise"
        ),
        figures={"first_std": first, "last_std": last},
    )


def _grows(signs: Signs) -> bool:
    """Tell whether activations grow or shrink through the depth of a network without normalisations."""
    if not len(signs.table.steps) or signs.normalised or len(signs.depth) < 3:
        return False
    first, last = float(signs.depth[0]), float(signs.depth[-1])
    times = max(first, last) / max(min(first, last), 1e-30)
    return times >= _GROWTH and not _STD[0] < last < _STD[1]


def _collapsed(signs: Signs, _: _Found) -> Diagnosis | None:
    if len(signs.table.steps) < 2 or not signs.shrunk < _COLLAPSED or _learned(signs):
        return None
    return Diagnosis(
        tag=REGULARISED,
        sentence=f"the weights shrank to {signs.shrunk:.1%} of what they were: the weight decay is too strong",
        figures={"weights_left": signs.shrunk},
    )


def _dead(signs: Signs, found: _Found) -> Diagnosis | None:
    dead = np.nan_to_num(signs.table.of("dead"))
    if len(dead) < _ROWS or dead[-1].max(initial=0) < _DEAD or REGULARISED in found:
        return None
    layer = int(np.argmax(dead[-1] >= _DEAD))
    share, first = float(dead[-1, layer]), float(dead[0, layer])
    when = (
        "it was so from the beginning" if first > _ALIVE else f"{first:.0%} were at the beginning: updates killed them"
    )
    return Diagnosis(
        tag=DEAD,
        sentence=f"{share:.0%} of the units of {_name(signs, layer)} give 0 on every batch looked at; {when}",
        figures={"dead": share, "dead_at_first": first},
    )


def _rate_high(signs: Signs, found: _Found) -> Diagnosis | None:
    """Name what large updates leave behind, where nothing was wrong before the first of them."""
    if {EXPLODING, NOT_NORMALISED, REGULARISED} & set(found):
        return None
    left = dict(_left_behind(signs, found))
    if not left:
        return None
    ratio = _early_ratio(signs)
    aside = f" (update over weights: {ratio:.1g}, healthy: about 1e-3)" if np.isfinite(ratio) else ""
    figures = {name: value for name, value in left.values() if name} | {"update_ratio": ratio}
    return Diagnosis(tag=RATE_HIGH, sentence="; ".join(left) + aside, figures=figures)


def _left_behind(signs: Signs, found: _Found) -> Iterator[tuple[str, tuple[str, float]]]:
    """Yield each sign in words, with its figure."""
    if DEAD in found and found[DEAD].figures["dead_at_first"] <= _ALIVE:
        yield "updates killed units that lived", ("dead", found[DEAD].figures["dead"])
    saturated = np.nan_to_num(signs.table.of("saturated"))
    if (
        len(saturated) >= _ROWS
        and (ends := np.where(saturated[0] <= _ALIVE, saturated[-1], 0.0).max(initial=0)) >= _STUCK
    ):
        yield f"updates drove {ends:.0%} of a layer's outputs to the ends of their range", ("saturated", float(ends))
    if _diverged(signs):
        worst = float(signs.train.max())
        yield f"the training loss was {worst:.2g} times {signs.unit}", ("largest_loss", worst)
    if TOO_HIGH in signs.course.failure:
        yield "an update made the network overflow", ("", 0.0)
    ratio = _early_ratio(signs)
    if len(signs.train) and not _learned(signs) and len(signs.weighted) > 2 and ratio >= _RESTLESS:
        yield "steps are large and little is learned", ("", 0.0)


def _early_ratio(signs: Signs) -> float:
    """Return the median layer's ratio of update to weights in the first half, without the first row."""
    early = signs.ratios[1 : max(2, len(signs.ratios) // 2)]
    return float(np.median(known)) if len(known := early[np.isfinite(early)]) else float("nan")


def _diverged(signs: Signs) -> bool:
    return bool(len(signs.train)) and bool(signs.train.max() >= _WORSE)


def _vanishing(signs: Signs, found: _Found) -> Diagnosis | None:
    if not len(signs.pulls) or set(found) - {NOT_FINITE} or _learned(signs):
        return None
    pulls = signs.pulls[: max(1, len(signs.pulls) // 2), signs.weighted]
    known = pulls[:, np.isfinite(pulls).all(axis=0)]
    if known.shape[1] < 3 or not (largest := known.max(axis=1)).all():
        return None
    share = float(np.median(known[:, 0] / largest))
    if share >= _VANISHED:
        return None
    return Diagnosis(
        tag=VANISHING,
        sentence=(
            f"the gradient of {_name(signs, int(signs.weighted[0]))} is {share:.1g} of the largest layer's, relative "
            "to the weights: activations saturate, or it is a long way without shortcuts"
        ),
        figures={"first_to_largest": share},
    )


def _rate_low(signs: Signs, found: _Found) -> Diagnosis | None:
    if not signs.course.ended or found or not signs.travel < _STOOD_STILL or signs.train[-1] < _LEFT:
        return None
    steps = len(signs.train) * signs.course.steps_per_epoch
    return Diagnosis(
        tag=RATE_LOW,
        sentence=(
            f"in {steps} steps the weights moved by {signs.travel:.1%} of themselves, and the training loss is still "
            f"{signs.train[-1]:.0%} of {signs.unit}: the rate is too low, or the steps are too few"
        ),
        figures={"travel": signs.travel, "train_loss": float(signs.train[-1])},
    )


def _underfits(signs: Signs, found: _Found) -> Diagnosis | None:
    if not signs.course.ended or found or _learned(signs) or signs.validation[-1] < _NOTHING_LEARNED:
        return None
    return Diagnosis(
        tag=UNDERFITS,
        sentence=(
            f"the validation loss ends at {signs.validation[-1]:.0%} of that of knowing nothing, the training loss at "
            f"{signs.train[-1]:.0%} of {signs.unit}: the model is too small or too much regularised, or the inputs say "
            "no more"
        ),
        figures={"train_loss": float(signs.train[-1]), "validation_loss": float(signs.validation[-1])},
    )


def _held_back(signs: Signs, found: _Found) -> Diagnosis | None:
    if not signs.course.ended or found or signs.course.nothing_train is None:
        return None
    train, validation = float(signs.train[-1]), float(signs.validation[-1])
    if train - validation < _GAP or validation < _POOR:
        return None
    return Diagnosis(
        tag=REGULARISED,
        sentence=(
            f"the training loss ends at {train:.0%} of that of knowing nothing, the validation loss at "
            f"{validation:.0%}: less dropout or augmentation"
        ),
        figures={"train_loss": train, "validation_loss": validation},
    )


def _overfits(signs: Signs, found: _Found) -> Diagnosis | None:
    losses = signs.validation
    if not signs.course.ended or {RATE_HIGH, EXPLODING, NOT_FINITE} & set(found) or not len(losses):
        return None
    best = int(np.argmin(losses))
    rise = float(losses[-1] - losses[best])
    total = rise * signs.course.num_validation * (signs.course.nothing_validation if signs.course.classes else 1.0)
    if total < (_ROSE_NATS if signs.course.classes else _ROSE_VARIANCES):
        return None
    falls = signs.train[-1] < signs.train[best] and signs.train[-1] < losses[-1] / 2
    if rise < _ROSE or losses[-1] < _ROSE_BY * losses[best] or not falls:
        return None
    return Diagnosis(
        tag=OVERFITS,
        sentence=(
            f"the validation loss rose from {losses[best]:.0%} of that of knowing nothing in epoch {best + 1} to "
            f"{losses[-1]:.0%}, while the training loss fell from {signs.train[best]:.0%} to {signs.train[-1]:.0%} "
            f"of {signs.unit}"
        ),
        figures={"best_loss": float(losses[best]), "last_loss": float(losses[-1]), "best_epoch": best + 1.0},
    )


_RULES: tuple[_Rule, ...] = (
    _not_finite,
    _exploding,
    _not_normalised,
    _collapsed,
    _dead,
    _rate_high,
    _vanishing,
    _rate_low,
    _underfits,
    _held_back,
    _overfits,
)
"""In this order: a rule may ask what those before it found."""


def _learned(signs: Signs) -> bool:
    """Judge by the validation loss where the training's has no measure: it may begin at anything, and end there."""
    losses = signs.validation if signs.course.nothing_train is None else signs.train
    return bool(len(losses)) and bool(losses[-1] < _NOTHING_LEARNED)


def _name(signs: Signs, layer: int) -> str:
    return f"{signs.table.layers[layer]} ({signs.table.kinds[layer]})"
