from pathlib import Path

import numpy as np
import pytest

from search import memory
from search.memory import peak_memory, reset_peak_memory, resident_memory

MUCH = 2**28


def hold_for_a_moment() -> None:
    np.ones(MUCH, dtype=np.uint8)


def test_memory_that_is_held_is_resident() -> None:
    before = resident_memory()
    held = np.ones(MUCH, dtype=np.uint8)
    assert resident_memory() - before > MUCH // 2
    assert held.nbytes == MUCH


def test_the_peak_stays_when_the_memory_is_given_back() -> None:
    reset_peak_memory()
    before = resident_memory()
    hold_for_a_moment()
    assert peak_memory() - before > MUCH // 2


def test_a_reset_begins_a_new_peak() -> None:
    hold_for_a_moment()
    high = peak_memory()
    reset_peak_memory()
    assert peak_memory() < high - MUCH // 4


def test_without_linux_the_peak_is_that_of_the_processs_life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "neither")
    hold_for_a_moment()
    high = peak_memory()
    assert high > MUCH
    reset_peak_memory()
    assert resident_memory() == peak_memory() >= high
