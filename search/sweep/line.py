"""Lines between the driver and the workers on its own machine: sockets in a private folder that carry reports.

A report that Ray carries and its answer take a millisecond, on a line a tenth of that. What begins and ends work goes
through Ray, which knows when a worker dies; so do the reports of workers on other machines, which have no line.
"""

from __future__ import annotations

import selectors
import shutil
import socket
import tempfile

from search.sweep.executor import Abandoned, Answer, Words
from search.sweep.wire import answer_from_bytes, answer_to_bytes, words_from_bytes, words_to_bytes

_READ = 65536
_GREETING_SECONDS = 5.0


class Line:
    """A worker's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers = connection.makefile("rb")

    def ask(self, words: Words) -> Answer:
        """Send words and wait for their answer; raise Abandoned where nobody is there to give one."""
        try:
            self._connection.sendall(words_to_bytes(words) + b"\n")
            answer = self._answers.readline()
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):
            raise Abandoned
        return answer_from_bytes(answer)

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._connection.close()


def call(address: str, caller: str) -> Line | None:
    """Open a line to the driver at `address`; None where it is on another machine."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
        connection.sendall(caller.encode() + b"\n")
    except OSError:
        connection.close()
        return None
    return Line(connection)


class Exchange:
    """The driver's end of all lines."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="search-")  # which is this user's alone
        self._listener = socket.socket(socket.AF_UNIX)
        self.address: str | None = f"{self._folder}/line"
        try:
            self._listener.bind(self.address)
        except OSError:  # TMPDIR is too long a name for a socket: everything goes through Ray
            self.address = None
            self._listener.bind("")
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        for end in (self._listener, self._woken):
            self._selector.register(end, selectors.EVENT_READ)
        self._lines: dict[str, socket.socket] = {}
        self._unread: dict[str, bytes] = {}

    def wake(self) -> None:
        """End the wait, from another thread."""
        try:
            self._waker.send(b"!")
        except OSError:  # it is awake already, or closed
            return

    def wait(self, timeout: float) -> list[tuple[str, Words]]:
        """Return (caller, words) of what came in, waiting up to `timeout` seconds for something or `wake`."""
        heard: list[tuple[str, Words]] = []
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._woken:
                self._woken.recv(_READ)
            else:
                heard += self._read(key.data)
        return heard

    def has(self, caller: str) -> bool:
        """Tell whether there is a line to a worker that said it called."""
        self._accept()
        return caller in self._lines

    def answer(self, caller: str, answer: Answer) -> None:
        """Send the answer to a caller's words; one that hung up is heard of through Ray."""
        line = self._lines.get(caller)
        if line is None:
            return
        try:
            line.sendall(answer_to_bytes(answer) + b"\n")
        except OSError:
            self.hang_up(caller)

    def hang_up(self, caller: str) -> None:
        """Close a line, if it is there."""
        line = self._lines.pop(caller, None)
        if line is not None:
            self._selector.unregister(line)
            line.close()
        self._unread.pop(caller, None)

    def close(self) -> None:
        """Close all lines."""
        for caller in list(self._lines):
            self.hang_up(caller)
        self._selector.close()
        for end in (self._listener, self._woken, self._waker):
            end.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except BlockingIOError:
                return
            line.settimeout(_GREETING_SECONDS)
            try:
                caller, _, unread = line.recv(_READ).partition(b"\n")
            except OSError:
                line.close()
                continue
            name = caller.decode()
            self._lines[name], self._unread[name] = line, unread
            self._selector.register(line, selectors.EVENT_READ, data=name)

    def _read(self, caller: str) -> list[tuple[str, Words]]:
        try:
            data = self._lines[caller].recv(_READ)
        except OSError:
            data = b""
        if not data:
            self.hang_up(caller)
            return []
        *whole, self._unread[caller] = (self._unread[caller] + data).split(b"\n")
        return [(caller, words_from_bytes(text)) for text in whole]
