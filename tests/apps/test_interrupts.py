"""Signals, in a process of its own that sends them to itself."""

import subprocess
import sys

import pytest

from tests.kits.commands import environment

START = "import os, signal\nfrom search.apps.interrupts import asked_on_signals, raise_on_signals\n"


def run(program: str, *, code: int = 0) -> list[str]:
    """Run a program; return what it printed, line by line, and check its exit code."""
    done = subprocess.run(
        [sys.executable, "-c", START + program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_first_signal_raises_and_the_second_ends_the_program_at_once(name: str) -> None:
    program = f"""
raise_on_signals()
try:
    signal.raise_signal(signal.{name})
except KeyboardInterrupt:
    print("raised", flush=True)
try:
    signal.raise_signal(signal.SIGTERM)
finally:
    print("never")
"""
    assert run(program, code=75) == ["raised"]


def test_where_a_program_asks_to_be_asked_the_first_signal_asks() -> None:
    program = """
with asked_on_signals(lambda: print("asked", flush=True)):
    signal.raise_signal(signal.SIGTERM)
    print("goes on", flush=True)
    signal.raise_signal(signal.SIGINT)
"""
    assert run(program, code=75) == ["asked", "goes on"]


def test_who_was_asked_ends_at_the_next_signal_also_later() -> None:
    program = """
with asked_on_signals(lambda: print("asked", flush=True)):
    signal.raise_signal(signal.SIGINT)
raise_on_signals()
signal.raise_signal(signal.SIGINT)
"""
    assert run(program, code=75) == ["asked"]


def test_who_was_not_asked_is_interrupted_as_before() -> None:
    program = """
with asked_on_signals(lambda: print("asked", flush=True)):
    pass
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("raised")
"""
    assert run(program) == ["raised"]
