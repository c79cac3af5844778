"""What lies behind the figures of the contenders' table, in a few lines."""

from __future__ import annotations

import numpy as np

from search.post.contenders import GREEDY
from search.post.results import Anatomy, Contender, Mistake, Mistakes, Results

_SHOWN = 3


def behind(results: Results) -> list[str]:
    """Return what the results say of the champion and of an ensemble's members."""
    champion = next((c for c in results.contenders if c.name == results.champion), None)
    lines = [] if champion is None else _calibration(champion)
    if results.anatomy is not None and results.anatomy.contributions:
        lines.append(_anatomy(results.anatomy))
    if (share := results.kept_by_student(GREEDY)) is not None:
        lines.append(f"the student keeps {share:.0%} of what the {GREEDY} has over the student alone, on test")
    if results.mistakes is not None:
        lines += _mistakes(results.mistakes, results.test_size)
    return lines


def _calibration(champion: Contender) -> list[str]:
    told = champion.calibration.get("test")
    if told is None or champion.temperature == 1.0:
        return []
    error = f"{told.error_before:.4f} → {told.error:.4f}"
    loss = f"{told.loss_before:.4f} → {told.loss:.4f}"
    return [f"the champion's calibration on test: error {error}, loss {loss} at temperature {champion.temperature:.3g}"]


def _anatomy(anatomy: Anatomy) -> str:
    """Return how unlike the members are and what the most useful are worth, on validation, which chose them."""
    unlike = ""
    if anatomy.disagreement is not None:
        unlike = f"two of its members differ on {anatomy.disagreement:.1%} of the validation examples; "
    elif anatomy.correlation is not None:
        unlike = f"the errors of two of its members correlate by {anatomy.correlation:.2f}; "
    ranked = sorted(anatomy.contributions.items(), key=lambda item: -item[1])
    worth = ", ".join(f"{member} {value:.2g}" for member, value in ranked[:_SHOWN])
    return f"{anatomy.name}: {unlike}without one of them {anatomy.metric} there is worse by: {worth}"


def _mistakes(mistakes: Mistakes, size: int) -> list[str]:
    listed = ", ".join(_shown(mistake) for mistake in mistakes.worst[:_SHOWN])
    if mistakes.wrong is None:
        return [f"the champion's largest errors on test: {listed}"] if listed else []
    lines = [f"the champion has {mistakes.wrong} of {size} wrong on test{_most_often(mistakes)}"]
    return [*lines, f"its surest mistakes: {listed}"] if listed else lines


def _most_often(mistakes: Mistakes) -> str:
    if mistakes.confusion is None or not mistakes.wrong:
        return ""
    counts = np.array(mistakes.confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_SHOWN]
    cells = [divmod(int(place), len(counts)) for place in order]
    named = [f"{mistakes.classes[t]} for {mistakes.classes[p]} ({counts[t, p]})" for t, p in cells if counts[t, p]]
    return f", most often taken: {', '.join(named)}"


def _shown(mistake: Mistake) -> str:
    if mistake.probability is None:
        return f"example {mistake.index} ({mistake.predicted:.4g} for {mistake.true:.4g})"
    return f"example {mistake.index} ({mistake.true} for {mistake.predicted}, {mistake.probability:.3f})"
