"""The stage predict: what a study's champion says of a file of new inputs. Starts no workers and needs no MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from search.apps.composed import Composed
from search.config.schema import SearchConfig
from search.errors import UsageError
from search.files import no_room
from search.post import lineage
from search.post.predictor import Predictor
from search.post.results import Results
from search.post.streams import inputs_in, writing
from search.reporting.progress import SteadyConsole

_SHOWN_ROWS = 10
_SHOWN_COLUMNS = 14


def predict(composed: Composed) -> int:
    """Write the predictions for `predict.input` to `predict.output`, or print the first; return the exit code."""
    cfg: SearchConfig = composed.cfg  # type: ignore[assignment] # a DictConfig of that schema
    console = SteadyConsole(soft_wrap=True)
    champion = _champion(_study(cfg))
    predictions = _predictions(champion, cfg)
    if cfg.predict.output is None:
        first = next(predictions)
        console.print(first.head(_SHOWN_ROWS).to_string(max_cols=_SHOWN_COLUMNS), highlight=False, markup=False)
        console.print("the first rows; predict.output=FILE.csv writes all", style="dim", highlight=False)
        return 0
    rows = _written(predictions, Path(cfg.predict.output))
    console.print(
        f"{rows} predictions of the champion, {champion.description['name']}, are in {cfg.predict.output}",
        highlight=False,
        markup=False,
    )
    return 0


def _study(cfg: SearchConfig) -> Path:
    hydra, folder = HydraConfig.get(), Path(cfg.output_dir).resolve()
    return folder / Path(hydra.runtime.output_dir).name if hydra.mode is RunMode.MULTIRUN else folder


def _champion(study: Path) -> Predictor:
    """Return the study's exported champion; raise UsageError where there is none that can predict."""
    folder = study / "champion"
    if lineage.exported_from(folder) is not None:
        return Predictor.load(folder)
    results = Results.load(study)
    if results is not None and results.problem is not None:
        raise UsageError(f"stages=[predict]: {results.problem}")
    raise UsageError(f"stages=[predict]: {study} has no champion yet; stages=[squeeze] makes it of a study's trials")


def _predictions(champion: Predictor, cfg: SearchConfig) -> Iterator[pd.DataFrame]:
    """Yield the predictions a piece at a time; raise UsageError for inputs that do not fit."""
    path = Path(str(cfg.predict.input))
    for piece in inputs_in(path, champion.encoder, name=str(cfg.data.get("inputs") or "x"), key="predict.input"):
        try:
            yield champion(piece)
        except ValueError as error:
            raise UsageError(f"predict.input={path}: {error}") from error


def _written(predictions: Iterator[pd.DataFrame], path: Path) -> int:
    """Write all; return the number of rows."""
    rows = 0
    if not path.parent.is_dir():
        raise UsageError(f"predict.output={path}: there is no folder {path.parent}")
    try:
        with writing(path) as write:
            for frame in predictions:
                write(frame)
                rows += len(frame)
    except OSError as error:
        if no_room(error):
            raise
        raise UsageError(f"predict.output={path}: cannot be written ({error.strerror})") from error
    return rows
