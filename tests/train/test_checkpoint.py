import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from search.train.checkpoint import load_state, save_state

STATE: dict[str, Any] = {
    "epoch": 3,
    "model": {"weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7), "empty": torch.zeros(0, 2)},
    "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}, 1: {}}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
    "best": {"step": 2, "figures": {"val/loss": 0.25}, "name": None},
}


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert (found, type(found)) == (expected, type(expected))


KEYS = st.integers(0, 9) | st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=4).filter(
    lambda key: not key.isdigit()
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=4)
    | st.lists(st.floats(width=32, allow_nan=False), max_size=3).map(lambda values: torch.tensor(values))
)
STATES = st.dictionaries(
    KEYS,
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)),
    max_size=4,
)


@given(state=STATES)
@settings(deadline=None, derandomize=True)
def test_a_state_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, state: dict[Any, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "state"
    save_state(path, state)
    assert_same(load_state(path), state)


def test_the_state_of_a_training_run_comes_back(tmp_path: Path) -> None:
    save_state(tmp_path / "c", STATE)
    assert_same(load_state(tmp_path / "c"), STATE)


def test_what_is_written_does_not_depend_on_what_happens_to_the_state_later(tmp_path: Path) -> None:
    weight = torch.zeros(2)
    save_state(tmp_path / "c", {"weight": weight})
    weight += 1
    assert_same(load_state(tmp_path / "c"), {"weight": torch.zeros(2)})


def test_tied_weights_and_views_are_kept_whole(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    view = torch.arange(12.0).reshape(3, 4)[:, 1:3].T
    save_state(tmp_path / "c", {"model": model.state_dict(), "view": view})
    assert_same(load_state(tmp_path / "c"), {"model": dict(model.state_dict()), "view": view})


def test_a_torn_file_is_none_wherever_it_was_torn(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    save_state(whole, STATE)
    data = whole.read_bytes()
    for size in range(len(data)):
        torn.write_bytes(data[:size])
        assert load_state(torn) is None, size
    torn.write_bytes(data)
    assert load_state(torn) is not None


def test_what_is_no_checkpoint_is_none(tmp_path: Path) -> None:
    path = tmp_path / "c"
    assert load_state(path) is None
    for data in (b"", b"\0" * 100, b"\xff" * 100, os.urandom(1000)):
        path.write_bytes(data)
        assert load_state(path) is None
    save_file({"weight": torch.zeros(2)}, path)
    assert load_state(path) is None
    save_file({"weight": torch.zeros(2)}, path, metadata={"skeleton": "{"})
    assert load_state(path) is None
    save_file({"weight": torch.zeros(2)}, path, metadata={"skeleton": '{"__tensor__": "bias"}'})
    assert load_state(path) is None


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path = tmp_path / "c"
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_state(path, {"object": nn.Linear(1, 1).forward})
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(pickle.dumps({"epoch": 1}))
    assert load_state(path) is None
    torch.save({"epoch": 1}, path)
    assert load_state(path) is None


def test_a_new_file_takes_the_old_ones_place_or_leaves_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    save_state(path, {"epoch": 1})

    def full(_: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            save_state(path, {"epoch": 2})
    assert load_state(path) == {"epoch": 1}
    save_state(path, {"epoch": 3})
    assert load_state(path) == {"epoch": 3}


def test_who_reads_the_old_file_meanwhile_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_state(path, {"epoch": 1})
    old = path.read_bytes()
    with path.open("rb") as file:
        beginning = file.read(5)
        save_state(path, {"epoch": 2, "weights": torch.zeros(1000)})
        assert beginning + file.read() == old


def test_a_process_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "c"
    code = f"""
import torch
from pathlib import Path
from search.train.checkpoint import save_state
epoch = 0
while True:
    epoch += 1
    save_state(Path({str(path)!r}), {{"epoch": epoch, "weights": torch.full((200_000,), float(epoch))}})
    print(epoch, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if int(line) == 20:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
    state = load_state(path)
    assert state is not None
    assert state["epoch"] >= 20
    assert torch.equal(state["weights"], torch.full((200_000,), float(state["epoch"])))


def test_tensors_are_loaded_onto_the_device_asked_for(tmp_path: Path) -> None:
    save_state(tmp_path / "c", STATE)
    state = load_state(tmp_path / "c", torch.device("cpu"))
    assert state is not None
    assert state["model"]["weight"].device.type == "cpu"
