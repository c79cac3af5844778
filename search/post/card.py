"""The champion's model card (Mitchell et al. 2019): what it is, what it was made from, how good, how to use it."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from search.post.lineage import Lineage, figure_text
from search.train.data.arrays import Examples
from search.train.data.table import TableEncoder

CARD = "README.md"
_PACKAGES = ("torch", "numpy", "pandas", "mlflow")
_LISTED = 20
"""Classes or words of a column that are written out."""


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """What a card says of the model itself; of each member the network, its `sizes` in parameters, its temperature."""

    name: str
    examples: Examples
    networks: Sequence[str]
    sizes: Sequence[int]
    temperatures: Sequence[float]
    temperature: float
    has_onnx: bool


def card(packaged: Packaged, lineage: Lineage) -> str:
    """Return the card in Markdown."""
    return "\n".join([*_what(packaged, lineage), *_figures(lineage), *_how(packaged, lineage), *_use(packaged)]) + "\n"


def _what(packaged: Packaged, lineage: Lineage) -> Iterator[str]:
    examples = packaged.examples
    number = len(packaged.networks)
    kind = "Classification" if examples.classes else "Regression"
    networks = "one network" if number == 1 else f"{number} networks"
    yield f"# {lineage.study}: {packaged.name}"
    yield ""
    yield f"{kind} with {networks}, {sum(packaged.sizes):,} parameters in all."
    yield ""
    yield "## Data and intended use"
    yield ""
    yield f"- Data: `{lineage.data}`, {len(examples):,} examples, digest `{lineage.data_digest}`"
    yield from _inputs(examples)
    if examples.classes:
        yield f"- Classes: {_some(examples.classes)}"
    yield "- Meant for inputs of the same source as these examples. It was judged on no others: not on a later time,"
    yield "  another place or another population, and its probabilities say nothing about inputs of another kind."
    yield ""


def _inputs(examples: Examples) -> Iterator[str]:
    if examples.table is None:
        shape = ", ".join(map(str, ("N", *examples.inputs.shape[1:])))
        yield f"- Inputs: {examples.inputs.dtype} ({shape}), as they come: they are standardised inside"
        return
    yield "- Inputs: a table with these columns, as they come (they are encoded and standardised inside):"
    for name, words in TableEncoder.from_plain(examples.table).columns:
        yield f"  - `{name}`: {'numbers' if words is None else f'words, of which {_some(words)} are known'}"


def _figures(lineage: Lineage) -> Iterator[str]:
    looks = "once" if lineage.test_looks == 1 else f"{lineage.test_looks} times in this study"
    yield "## Figures"
    yield ""
    yield f"| {lineage.metric} | value with 95 % interval over examples |"
    yield "|---|---|"
    if lineage.validation is not None:
        yield f"| validation, cross-fitted | {figure_text(lineage.validation)} |"
    yield f"| test, {lineage.test_size:,} examples, opened {looks} | {figure_text(lineage.test)} |"
    yield ""


def _how(packaged: Packaged, lineage: Lineage) -> Iterator[str]:
    yield "## How it was made"
    yield ""
    yield f"- Study `{lineage.study}` (`{lineage.uid}`){f', commit `{lineage.commit}`' if lineage.commit else ''}"
    if packaged.examples.classes:
        own = "each member's at its own, then " if any(t != 1 for t in packaged.temperatures) else ""
        yield f"- Probabilities are at temperatures (Guo et al. 2017): {own}all at {packaged.temperature:.4g}"
    if lineage.teachers:
        yield f"- Distilled from {len(lineage.teachers)} networks: {_some([f'`{f}`' for f in lineage.teachers])}"
    yield ""
    yield "| member | weight | temperature | network | parameters | MLflow run |"
    yield "|---|---:|---:|---|---:|---|"
    of_each = zip(packaged.temperatures, packaged.networks, packaged.sizes, strict=True)
    for (folder, weight), (temperature, network, size) in zip(lineage.members.items(), of_each, strict=True):
        run = lineage.runs.get(folder, "")
        yield f"| `{folder}` | {weight:.4g} | {temperature:.4g} | {network} | {size:,} | {run} |"
    yield ""


def _use(packaged: Packaged) -> Iterator[str]:
    classes = bool(packaged.examples.classes)
    outputs = "`prediction`, `p_<class>`, `entropy` (nats) and `spread`" if classes else "`prediction` and `spread`"
    spread = (
        "the mutual information of class and member, in nats: 0 where all agree (Lakshminarayanan et al. 2017)"
        if classes
        else "the members' weighted standard deviation, in the target's unit"
    )
    yield "## How to use it"
    yield ""
    yield f"As a model of MLflow it returns a table with {outputs}; the spread is {spread}."
    yield "Without MLflow, `search stages=[predict] predict.input=FILE` does the same, and the program alone needs"
    yield f"nothing but PyTorch: float32 inputs in, ({'probabilities' if classes else 'values'}, spread) out."
    yield ""
    yield "```python"
    yield "import torch"
    yield ""
    yield 'program = torch.export.load("program.pt2").module()'
    yield f"{'probabilities' if classes else 'values'}, spread = program(inputs)"
    yield "```"
    yield ""
    if packaged.has_onnx:
        yield "`program.onnx` is the same for ONNX Runtime: input `inputs`, as many rows as you like."
        yield ""
    if packaged.examples.table is not None:
        yield "For these programs, words are one-hot columns in the order of `description.json`, missing numbers NaN."
        yield ""
    yield "## Environment"
    yield ""
    yield f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in _PACKAGES)}"


def _some(words: Sequence[str]) -> str:
    more = len(words) - _LISTED
    return ", ".join(words[:_LISTED]) + (f" and {more} more" if more > 0 else "")
