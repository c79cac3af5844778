from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from search.config.messages import one_line, suggestion

NOWHERE = Path("/nowhere")


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        ("widht", ["width", "depth"], "did you mean width? allowed: width, depth"),
        ("serach", ("search", "squeeze"), "did you mean search? allowed: search, squeeze"),
        ("zzz", ["width", "depth"], "allowed: width, depth"),
        ("anything", [], "allowed: nothing"),
    ],
)
def test_a_mistyped_name_is_answered_by_what_is_near_and_what_is_allowed(
    name: str, allowed: list[str], expected: str
) -> None:
    assert suggestion(name, allowed) == expected


def test_a_missing_option_is_answered_by_those_that_exist() -> None:
    error = MissingConfigException(
        "In 'search': Could not find 'model/resnet'\n\nAvailable options in 'model':\n\tcnn\n\tlinear\n\tmlp\n"
        "Config search path:\n\tprovider=hydra, path=pkg://hydra.conf\n"
    )
    assert one_line(error, NOWHERE, "search") == "model=resnet: no such option; allowed: cnn, linear, mlp"


def test_a_cause_is_told_once_and_with_its_key() -> None:
    cfg = OmegaConf.structured({"trainer": {"epochs": 1}})
    OmegaConf.set_struct(cfg, True)
    with pytest.raises(OmegaConfBaseException) as cause:
        OmegaConf.update(cfg, "trainer.epoch", 3)
    error = ConfigCompositionException(f"Error merging override trainer.epoch=3\n{cause.value}")
    error.__cause__ = cause.value
    told = one_line(error, NOWHERE, "search")
    assert "\n" not in told
    assert told.count("Key 'epoch' is not in struct") == 1
    assert "trainer.epoch" in told


@pytest.mark.parametrize("noise", ["full_key: trainer.epochs", "object_type=Trainer", "See https://hydra.cc/x"])
def test_what_only_developers_read_is_left_out(noise: str) -> None:
    told = one_line(ConfigCompositionException(f"Value 'x' could not be converted\n    {noise}"), NOWHERE, "search")
    assert noise not in told
    assert told.endswith("Value 'x' could not be converted")


def test_the_key_stands_first_where_the_message_lacks_it() -> None:
    error = ConfigCompositionException("Value 'x' could not be converted to Integer\n    full_key: trainer.epochs")
    assert one_line(error, NOWHERE, "search") == "trainer.epochs: Value 'x' could not be converted to Integer"
