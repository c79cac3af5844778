"""What the squeeze is worth: every contender on the test split, over searches that differ in their seed alone.

Each seed is a whole search by the real command, with a split of its own where the data brings no test set. A study that
is finished is kept: the same call shows its table again, and one that was cut short goes on.

A row a contender. `test` is the mean of its figure over the seeds, `low` and `high` its 95 % interval (Student's t);
`gain` likewise, seed by seed, by how much it is better than the single best. Of one seed the intervals are those that
the study has, over test examples. `seeds` is how many of the searches had the contender.

`share` is how much of the greedy ensemble's gain over the student alone the student has, too: the mean gain of the one
over the mean gain of the other, with Fieller's interval (1954); `mean of shares` is that of each seed's own. NaN is
what is undefined: a share where the ensemble is no better than the student alone, an interval where it might not be.

`seconds` is the mean time of a whole command, of those that ran one from its beginning; the machine's load is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from rich.console import Console

from scripts.benchmarks.environments import cache
from scripts.benchmarks.results import OURS, Goal, Record
from scripts.benchmarks.startup import PROGRAM
from scripts.benchmarks.statistics import Estimate, mean_of, mean_ratio, ratio_of_means
from scripts.benchmarks.watching import progress
from search.errors import UsageError
from search.post.contenders import GREEDY, SINGLE
from search.post.results import ALONE, STUDENT, Contender, Figure, Results

SHARED = "student's share"
GAIN, SHARE = "gain", "share"
GOALS = (
    Goal(metric=GAIN, system=GREEDY, case="mnist1d mlp", least=0.010),
    Goal(metric=f"{GAIN} low", system=GREEDY, case="mnist1d mlp", least=0.0),
    Goal(metric=SHARE, system=SHARED, case="mnist1d mlp", least=0.5),
)
_LAST_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is searched: overrides of the command, and over how many seeds unless another number is asked for."""

    name: str
    words: tuple[str, ...] = ()
    seeds: int = 5


FASHION = Case(
    name="fashion mlp",
    words=(
        *("+experiment=fashion_mnist", "model=mlp", "budget.trials=16", "trainer.epochs=12"),
        *("squeeze.longer.trials=1", "squeeze.distill.trials=2", "squeeze.refit=0"),
    ),
    seeds=1,
)
CASES = (
    Case(name="digits"),
    Case(
        name="mnist1d mlp",
        words=(
            *("+experiment=mnist1d", "model=mlp", "trainer.epochs=80"),  # until a training longer is of no use alone
            *("squeeze.distill.trials=4", "squeeze.refit=0"),
        ),
    ),
    Case(name="mnist1d cnn", words=("+experiment=mnist1d", "model=cnn", "squeeze.refit=0")),
    FASHION,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument(
        *("--case", "-c"),
        action="append",
        metavar="NAME",
        help=f"only cases whose name begins so, of: {', '.join(case.name for case in CASES)}; may be repeated",
    )
    parser.add_argument("--seeds", type=int, help="searches of each case, seeds 0, 1, ...; otherwise 5, of fashion 1")
    parser.add_argument("--fashion", type=Path, metavar="DIR", help="where Fashion-MNIST's four files are")
    parser.add_argument("--outputs", type=Path, default=cache() / "squeeze", metavar="DIR", help="where studies are")
    parser.add_argument(
        *("--set", "-s"),
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an override for every search, best with --outputs of its own; may be repeated",
    )


def run(options: argparse.Namespace, console: Console) -> list[Record]:
    """Run every case's searches, one after another."""
    cases = cases_of(options.case, options.fashion, console)
    if options.seeds is not None:
        if options.seeds < 1:
            raise UsageError(f"--seeds {options.seeds}: at least 1")
        cases = [replace(case, seeds=options.seeds) for case in cases]
    outputs = options.outputs.absolute()
    outputs.mkdir(parents=True, exist_ok=True)
    records = []
    with progress(console, "searches", sum(case.seeds for case in cases)) as advance:
        for case in cases:
            found, seconds = [], []
            for seed in range(case.seeds):
                name = f"{case.name.replace(' ', '-')}-{seed}"
                seconds.append(search(name, [*words_of(name, seed), *case.words, *options.set], outputs, console))
                found.append(_results(outputs / name))
                advance(1)
            records += [*records_of(case.name, found), *_times(case.name, seconds)]
    return records


def cases_of(names: Sequence[str] | None, fashion: Path | None, console: Console) -> list[Case]:
    """Return the cases whose names begin so, Fashion-MNIST's where its folder is given; raise UsageError for none."""
    for name in names or ():
        if not any(case.name.startswith(name) for case in CASES):
            raise UsageError(f"--case {name}: none of {', '.join(case.name for case in CASES)}")
    cases = [case for case in CASES if names is None or case.name.startswith(tuple(names))]
    if FASHION in cases:
        cases.remove(FASHION)
        if fashion is not None:
            cases.append(replace(FASHION, words=(*FASHION.words, f"data.root={fashion.absolute()}")))
        elif cases:
            console.print(f"note: {FASHION.name} is left out; --fashion DIR says where its files are")
        else:
            raise UsageError(f"--case {FASHION.name}: --fashion DIR says where its files are")
    return cases


def words_of(name: str, seed: int) -> list[str]:
    """Return the overrides that every search has."""
    return [
        *(f"name={name}", f"seed={seed}", f"split.seed={seed}"),
        *("tracking=none", "stages=[search,rematch,squeeze]", "squeeze.register=null"),
    ]


def search(name: str, words: Sequence[str], outputs: Path, console: Console) -> float | None:
    """Run a search, or what is missing of it; return how long a whole one took with these words, if one ran."""
    note, log = outputs / f"{name}.json", outputs / f"{name}.log"
    fresh = not (outputs / name).exists()
    begin = time.perf_counter()
    code = _call([*PROGRAM, *words], log, outputs)
    seconds = time.perf_counter() - begin
    if code:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
        console.print(last, markup=False, highlight=False, soft_wrap=True)
        raise RuntimeError(f"the search {name} ended with {code}; all that it said is in {log}")
    if fresh:
        note.write_text(json.dumps({"words": words, "seconds": seconds}))
    noted = json.loads(note.read_text()) if note.exists() else {}
    return noted["seconds"] if noted.get("words") == list(words) else None


def _call(command: Sequence[str], log: Path, outputs: Path) -> int:
    with log.open("wb") as output:
        environment = os.environ | {"SEARCH_OUTPUTS": str(outputs)}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            return process.wait()
        finally:
            process.wait()  # Ctrl-C reaches it, too: it pauses what runs before it leaves


def _results(study: Path) -> Results:
    results = Results.load(study)
    if results is None:
        raise RuntimeError(f"{study}: the search left no results")
    return results


# Figures


Contenders = Mapping[str, Contender]
"""Those of one seed, by their names without numbers of members."""


def records_of(case: str, found: Sequence[Results]) -> list[Record]:
    """Return a case's figures from the results of its seeds: each contender's, then the student's share."""
    sign = 1.0 if found[0].maximize else -1.0
    seeds = [{plain_name(contender.name): contender for contender in results.contenders} for results in found]
    names = dict.fromkeys(name for seed in seeds for name in seed)
    rows = {name: _contender(name, [seed for seed in seeds if name in seed], sign) for name in names}
    rows[SHARED] = _share([seed for seed in seeds if {STUDENT, ALONE, GREEDY} <= seed.keys()], sign)
    return _records(case, rows)


def plain_name(name: str) -> str:
    """Return a contender's name without how many members there were, which differs between seeds."""
    return re.sub(r" top \d+$", " top k", name)


def _contender(name: str, seeds: Sequence[Contenders], sign: float) -> dict[str, float]:
    test = _over([seed[name].test.value for seed in seeds], seeds[0][name].test)
    figures = {"seeds": len(seeds), "test": test.value, "low": test.low, "high": test.high}
    if name == SINGLE:
        return figures
    gains = [_gain(seed, name, SINGLE, sign) for seed in seeds]
    return figures | _bounded(GAIN, _over(gains, seeds[0][name].gain))


def _over(values: Sequence[float], first: Figure | None) -> Estimate:
    """Return the mean over seeds; of one seed, its figure with the interval over examples where there is one."""
    if len(values) == 1 and first is not None:
        return Estimate(values[0], first.low, first.high)
    return mean_of(values)


def _share(seeds: Sequence[Contenders], sign: float) -> dict[str, float]:
    if not seeds:
        return {}
    students = [_gain(seed, STUDENT, ALONE, sign) for seed in seeds]
    ensembles = [_gain(seed, GREEDY, ALONE, sign) for seed in seeds]
    share = _bounded(SHARE, ratio_of_means(students, ensembles))
    return {"seeds": len(seeds), **share, "mean of shares": mean_ratio(students, ensembles)}


def _gain(seed: Contenders, name: str, over: str, sign: float) -> float:
    return sign * (seed[name].test.value - seed[over].test.value)


def _bounded(metric: str, estimate: Estimate) -> dict[str, float]:
    return {metric: estimate.value, f"{metric} low": estimate.low, f"{metric} high": estimate.high}


def _times(case: str, seconds: Sequence[float | None]) -> list[Record]:
    known = [some for some in seconds if some is not None]
    return _records(case, {OURS: {"seeds": len(known), "seconds": fmean(known)}} if known else {})


def _records(case: str, rows: Mapping[str, Mapping[str, float]]) -> list[Record]:
    record = partial(Record, bench="squeeze", case=case)
    return [
        record(system=system, metric=metric, value=value)
        for system, figures in rows.items()
        for metric, value in figures.items()
    ]
