"""What `_target_` names: it is found, allowed by Hydra and bound to arguments, for each trial in no time."""

import sys
import types
from typing import Any

import pytest
import torch.optim  # noqa: F401 - what is not imported yet Hydra looks for itself
from hydra.utils import instantiate

from search.config import build
from search.errors import UsageError


def test_a_process_that_is_ended_from_outside_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray ends a worker whose driver died: by an exception out of compiled code, which no file has."""
    made: dict[str, Any] = {}
    exec(compile("def ends(*_, **__):\n    raise SystemExit(1)", "nowhere.pyx", "exec"), made)
    monkeypatch.setattr(build, "instantiate", made["ends"])
    build._authorized.cache_clear()
    with pytest.raises(SystemExit):
        build.factory({"_target_": "torch.optim.AdamW"}, "optimizer")


def test_hydra_is_asked_once_for_each_target_and_not_for_each_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def heard(node: dict[str, Any], **options: Any) -> Any:
        asked.append(node["_target_"])
        return instantiate(node, **options)

    monkeypatch.setattr(build, "instantiate", heard)
    build._authorized.cache_clear()
    made = [build.factory({"_target_": "torch.optim.SGD", "lr": lr}, "optimizer") for lr in (0.1, 0.2)]
    assert [one.keywords for one in made] == [{"lr": 0.1}, {"lr": 0.2}]  # type: ignore[attr-defined]
    assert asked == ["torch.optim.SGD"]


def test_arguments_are_a_trials_own() -> None:
    node = {"_target_": "torch.optim.AdamW", "betas": [0.9, [0.99]]}
    for _ in range(2):
        betas = build.factory(node, "optimizer").keywords["betas"]  # type: ignore[attr-defined]
        assert betas == [0.9, [0.99]]
        betas[1].clear()


def test_a_target_is_what_its_module_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_module_of_mine")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for answer in (1, 2):
        exec(f"def make(by=0):\n    return {answer} + by", vars(module))
        module.make.__module__ = module.__name__
        assert build.factory({"_target_": "a_module_of_mine.make", "by": 10}, "model")() == answer + 10


@pytest.mark.parametrize("target", ["os.system", "subprocess.run", "builtins.eval"])
def test_what_hydra_forbids_is_not_called(target: str) -> None:
    with pytest.raises(UsageError, match=f"model._target_={target}"):
        build.factory({"_target_": target, "command": "true"}, "model")
