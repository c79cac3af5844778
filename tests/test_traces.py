"""Of an error, the user sees what is theirs: their line, and a traceback that begins with it."""

import runpy
from collections.abc import Callable
from typing import Any

import pytest

import search.sweep.executor as engine
from search.records import event_from_json
from search.traces import told, user_line, user_traceback

USERS = """\
import json


def direct(*_):
    raise ValueError("first\\n  second")


def in_a_library():
    return json.loads("{")


def chained():
    try:
        direct()
    except ValueError as error:
        raise RuntimeError("could not") from error


def without_words():
    raise KeyError


def for_a_missing_key():
    return {}["missing"]


def with_the_engine():
    import search.current
    import search.sweep.executor

    return search.sweep.executor.carried_out(ends, None, None)


def ends(*_):
    import search.sweep.executor

    try:
        direct()
    except ValueError as error:
        raise search.sweep.executor.Abandoned from error


def again():
    return again()
"""

LINES = {
    "direct": ("ValueError: first second", "users.py:5 in direct"),
    "in_a_library": (
        "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "users.py:9 in in_a_library",
    ),
    "chained": ("RuntimeError: could not", "users.py:16 in chained"),
    "without_words": ("KeyError", "users.py:20 in without_words"),
    "for_a_missing_key": ("KeyError: 'missing'", "users.py:24 in for_a_missing_key"),
}


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[..., Any]]:
    path = tmp_path_factory.mktemp("users") / "users.py"
    path.write_text(USERS)
    return runpy.run_path(str(path))


def error_of(function: Callable[..., Any], *arguments: Any) -> BaseException:
    with pytest.raises(BaseException) as raised:
        function(*arguments)
    error: BaseException = raised.value
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)  # without this file's part, which is a user's, too


@pytest.mark.parametrize("name", LINES)
def test_an_error_is_told_in_one_line_with_the_innermost_of_the_users(
    users: dict[str, Callable[..., Any]], name: str
) -> None:
    words, line = LINES[name]
    error = error_of(users[name])
    assert user_line(error) == line
    assert told(error) == f"{words} ({line})"


def test_an_error_of_the_engines_has_no_line_of_the_users() -> None:
    error = error_of(event_from_json, "{")
    assert user_line(error) is None
    assert user_traceback(error) is None
    assert told(error).startswith("JSONDecodeError: Expecting property name")


def test_the_traceback_begins_with_the_users_first_line(users: dict[str, Callable[..., Any]]) -> None:
    error = error_of(engine.carried_out, users["ends"], None, None)
    trace = user_traceback(error)
    assert trace is not None
    assert "executor.py" not in trace
    assert trace.splitlines()[-1] == "search.sweep.executor.Abandoned"
    assert "users.py" in trace


def test_the_engines_lines_within_the_users_are_left_out_too(users: dict[str, Callable[..., Any]]) -> None:
    trace = user_traceback(error_of(users["with_the_engine"]))
    assert trace is not None
    assert "executor.py" not in trace
    assert [line.split(", in ")[1] for line in trace.splitlines() if ", in " in line] == [
        "ends",
        "direct",
        "with_the_engine",
        "ends",
    ]


def test_what_an_error_came_from_is_shown_with_it(users: dict[str, Callable[..., Any]]) -> None:
    trace = user_traceback(error_of(users["chained"]))
    assert trace is not None
    first, _, second = trace.partition("The above exception was the direct cause of the following exception")
    assert "ValueError: first\n  second" in first
    assert "RuntimeError: could not" in second


def test_a_library_that_the_users_line_called_is_shown(users: dict[str, Callable[..., Any]]) -> None:
    trace = user_traceback(error_of(users["in_a_library"]))
    assert trace is not None
    assert "decoder.py" in trace


def test_an_endless_recursion_stays_short(users: dict[str, Callable[..., Any]]) -> None:
    error = error_of(users["again"])
    trace = user_traceback(error)
    assert trace is not None
    assert len(trace.splitlines()) < 30
    assert told(error).startswith("RecursionError: maximum recursion depth exceeded (users.py:")


@pytest.mark.parametrize(("filename", "line"), [("<stdin>", "<stdin>:1 in <module>"), ("<string>", None)])
def test_what_is_typed_is_the_users_and_what_a_program_makes_is_not(filename: str, line: str | None) -> None:
    error = error_of(exec, compile("1 / 0", filename, "exec"), {})
    assert user_line(error) == line
