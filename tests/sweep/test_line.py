import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.records import Decision, Report, Verdict
from search.sweep.executor import Abandoned, Answer, Words
from search.sweep.line import Exchange, Line, call
from tests.kits.doubles import spec

Open = Callable[[str], Line]


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    exchange = Exchange()
    yield exchange
    exchange.close()


def report(step: int) -> Words:
    return (_report(step),)


def _report(step: int) -> Report:
    return Report(number=3, step=step, metrics={"objective": float("nan"), "text": 0.5}, time=1.0)


def decision(step: int) -> Answer:
    told = Decision(number=3, step=step, verdict=Verdict.GO_ON, reason="läuft\nweiter", time=1.0)
    return Answer((told, told), (spec(7, [0.5, float("inf")], "a folder", deep={"a": [1, None, "läuft\n"]}),))


@pytest.fixture
def opened(exchange: Exchange) -> Iterator[Callable[[str], Line]]:
    lines: list[Line] = []

    def open_line(caller: str) -> Line:
        assert exchange.address is not None
        line = call(exchange.address, caller)
        assert line is not None
        lines.append(line)
        assert exchange.has(caller)
        return line

    yield open_line
    for line in lines:
        line.close()


def heard(exchange: Exchange) -> list[tuple[str, Report]]:
    for _ in range(100):
        if found := exchange.wait(1.0):
            return [(caller, said) for caller, words in found for said in words if isinstance(said, Report)]
    raise AssertionError("nothing came")


def test_a_report_goes_one_way_and_its_answer_the_other(exchange: Exchange, opened: Open) -> None:
    line = opened("0-1")
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.extend(line.ask(report(step)) for step in (1, 2)))
    asking.start()
    for step in (1, 2):
        ((caller, said),) = heard(exchange)
        assert (caller, said.step) == ("0-1", step)
        exchange.answer("0-1", decision(step))
    asking.join(10)
    assert answers == [decision(1), decision(2)]


def test_lines_are_told_apart_by_their_callers(exchange: Exchange, opened: Open) -> None:
    lines = {caller: opened(caller) for caller in ("0-1", "1-2")}
    threads = [threading.Thread(target=line.ask, args=(report(1),)) for line in lines.values()]
    for thread in threads:
        thread.start()
    callers: set[str] = set()
    while len(callers) < 2:
        for caller, said in heard(exchange):
            callers.add(caller)
            exchange.answer(caller, decision(said.step))
    for thread in threads:
        thread.join(10)
    assert callers == {"0-1", "1-2"}


def test_a_report_in_pieces_is_put_together(exchange: Exchange) -> None:
    assert exchange.address is not None
    with socket.socket(socket.AF_UNIX) as worker:
        worker.connect(exchange.address)
        worker.sendall(b"0-1\n")
        assert exchange.has("0-1")
        text = b'[{"event": "report", "number": 1, "step": 2, "metrics": {}, "time": 0.0}]\n'
        for i in range(0, len(text), 20):
            assert exchange.wait(0.05) == []
            worker.sendall(text[i : i + 20])
        assert [said.step for _, said in heard(exchange)] == [2]


def test_another_thread_ends_the_wait(exchange: Exchange) -> None:
    threading.Timer(0.05, exchange.wake).start()
    assert exchange.wait(60.0) == []


def test_a_line_that_was_hung_up_says_nothing_and_takes_nothing(exchange: Exchange, opened: Open) -> None:
    line = opened("0-1")
    exchange.hang_up("0-1")
    with pytest.raises(Abandoned):
        line.ask(report(1))
    exchange.answer("0-1", decision(1))
    assert not exchange.has("0-1")
    assert exchange.wait(0.01) == []


def test_there_is_no_line_to_a_driver_that_is_not_on_this_machine(tmp_path: Path) -> None:
    assert call(str(tmp_path / "nobody"), "0-1") is None


def test_a_name_too_long_for_a_socket_leaves_everything_to_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 150)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    exchange = Exchange()
    assert exchange.address is None
    assert exchange.wait(0.01) == []
    exchange.close()


def test_nobody_else_may_call(exchange: Exchange) -> None:
    assert exchange.address is not None
    assert Path(exchange.address).parent.stat().st_mode & 0o077 == 0
