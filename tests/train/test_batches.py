from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from search.train.batches import Batches, LoaderBatches, ResidentBatches
from search.train.data.arrays import Examples

CPU = torch.device("cpu")
ORDER = torch.tensor([5, 1, 8, 0, 3, 9, 2])

KINDS: dict[str, Callable[[Examples], Batches]] = {
    "resident": lambda examples: ResidentBatches(examples, CPU),
    "loader": lambda examples: LoaderBatches(examples, CPU, 0),
    "loader with workers": lambda examples: LoaderBatches(examples, CPU, 2),
}


def examples(*, numbers: bool = False, inputs: Any = None) -> Examples:
    return Examples(
        name="made",
        inputs=np.random.default_rng(0).integers(0, 256, (10, 1, 3, 2)).astype(np.uint8) if inputs is None else inputs,
        targets=np.arange(10, dtype=np.float32) / 7 if numbers else np.arange(10) % 4,
        task="regression" if numbers else "classification",
        classes=() if numbers else tuple("abcd"),
    )


SIZES = [(kind, size) for kind in ("resident", "loader") for size in (1, 3, 7, 100)]


@pytest.mark.parametrize(("kind", "size"), [*SIZES, ("loader with workers", 3)])
@pytest.mark.parametrize("numbers", [False, True], ids=["classes", "numbers"])
# from Python 3.12 on: torch forks its workers, and threads of earlier tests may be there
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_batches_are_the_examples_in_the_callers_order(kind: str, size: int, numbers: bool) -> None:
    data = examples(numbers=numbers)
    batches = list(KINDS[kind](data)(ORDER, size))
    assert [len(indices) for _, _, indices in batches] == [len(part) for part in ORDER.split(size)]
    inputs, targets, indices = (torch.cat(part) for part in zip(*batches, strict=True))
    assert torch.equal(indices, ORDER)
    assert torch.equal(inputs, torch.as_tensor(data.inputs)[ORDER])
    assert torch.equal(targets, torch.as_tensor(data.targets)[ORDER])
    assert (inputs.dtype, targets.dtype) == (torch.uint8, torch.float32 if numbers else torch.int64)


@pytest.mark.parametrize("kind", ["resident", "loader"])
def test_the_source_is_asked_again_for_every_epoch(kind: str) -> None:
    batches = KINDS[kind](examples())
    first, second, third = (
        [indices.tolist() for *_, indices in batches(order, 4)] for order in (ORDER, ORDER.flip(0), ORDER)
    )
    assert first == third
    assert first != second


@pytest.fixture
def every_warning() -> Iterator[None]:
    """Has torch give a warning each time, not once a process: an earlier test would hide it."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.parametrize("kind", ["resident", "loader"])
def test_arrays_that_may_not_be_written_are_taken_without_a_warning(kind: str, every_warning: None) -> None:
    data = examples()  # so they come out of Ray's object store, and out of a memory-mapped file
    data.inputs.setflags(write=False)
    data.targets.setflags(write=False)
    assert len(list(KINDS[kind](data)(ORDER, 4))) == 2


@pytest.mark.parametrize("kind", ["resident", "loader"])
def test_batches_draw_no_random_numbers(kind: str) -> None:
    # dropout masks would differ between the two kinds
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        list(KINDS[kind](examples())(ORDER, 4))
        assert torch.equal(torch.rand(3), expected)


def test_a_loader_reads_from_a_memory_mapped_file(tmp_path: Any, every_warning: None) -> None:
    np.save(tmp_path / "inputs.npy", examples().inputs)
    mapped = np.load(tmp_path / "inputs.npy", mmap_mode="r")
    inputs, _, _ = next(LoaderBatches(examples(inputs=mapped), CPU, 0)(ORDER, 10))
    assert torch.equal(inputs, torch.as_tensor(examples().inputs)[ORDER])
