"""What `_target_` names: a process that is to end is not kept by it."""

from typing import Any

import pytest

from search.config import build


def test_a_process_that_is_ended_from_outside_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray ends a worker whose driver died: by an exception out of compiled code, which no file has."""
    made: dict[str, Any] = {}
    exec(compile("def ends(*_, **__):\n    raise SystemExit(1)", "nowhere.pyx", "exec"), made)
    monkeypatch.setattr(build, "instantiate", made["ends"])
    with pytest.raises(SystemExit):
        build.factory({"_target_": "torch.optim.AdamW"}, "optimizer")
