"""What the command line allows beyond Hydra's grammar: `choose.<group>=[a,b]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from search.errors import UsageError

_CHOICE = re.compile(r"\+{0,2}choose\.(?P<group>\w+)=(?P<options>.*)", re.DOTALL)
_OPTION = re.compile(r"\+{0,2}(?P<group>\w+)(@[\w.]+)?=[\w\-]+")
_SWEPT_DATA = re.compile(r"data=(?:(?P<options>[\w\-]+(?:,[\w\-]+)+)|(?:choice|glob|shuffle|sort)\(.*\))", re.DOTALL)
_LONGEST_NAME = 100
_LIST = re.compile(r"\[\s*[\w\-]+(\s*,\s*[\w\-]+)*\s*\]")


NEEDED = ("model", "optimizer", "schedule")
"""Groups of which each trial has an option."""
CHOOSABLE = (*NEEDED, "augment")
"""Groups whose option may be a parameter."""


def expand(arguments: Sequence[str], conf: Path, config_name: str) -> list[str]:
    """Return the arguments with each `choose.<group>=[a,b]` written as Hydra's defaults-list overrides.

    The options of `<group>` are composed side by side under `choose.<group>.<option>`; those that the
    configuration has and the list does not are taken out. Raises UsageError for anything but a list of names.
    """
    arguments = _with_one_name(arguments)
    choices = [match for text in arguments if (match := _CHOICE.fullmatch(text))]
    _refuse_contradictions(arguments)
    _refuse_null(arguments)
    if not choices:
        return list(arguments)
    groups = [match["group"] for match in choices]
    for group in groups:
        if group not in CHOOSABLE:
            raise UsageError(f"choose.{group}: cannot be a parameter; allowed: {', '.join(CHOOSABLE)}")
        if groups.count(group) > 1:
            raise UsageError(f"choose.{group}: stands there twice; name all options in one list")
    others = [text for text in arguments if not _CHOICE.fullmatch(text)]
    composed = _composed_groups(others, conf, config_name)
    # In place: argparse takes the overrides as one run of words.
    return [word for text in arguments for word in _in_hydras_words(text, composed)]


def _with_one_name(arguments: Sequence[str]) -> list[str]:
    """Name a multirun over several data, so that its searches share a folder and MLflow's store.

    A search is called like its data unless it is named.
    """
    swept = next((match for text in arguments if (match := _SWEPT_DATA.fullmatch(text))), None)
    named = any(text.lstrip("+").startswith(("name=", "output_dir=")) for text in arguments)
    if swept is None or named or not {"-m", "--multirun"} & set(arguments):
        return list(arguments)
    at = list(arguments).index(swept[0]) + 1
    name = swept["options"].replace(",", "+") if swept["options"] else "data"
    return [*arguments[:at], f"name={name[:_LONGEST_NAME]}", *arguments[at:]]


def _in_hydras_words(text: str, composed: Sequence[tuple[str, str]]) -> list[str]:
    match = _CHOICE.fullmatch(text)
    if match is None:
        return [text]
    group, options = match["group"], match["options"]
    if not _LIST.fullmatch(options):
        raise UsageError(f"choose.{group}={options}: must be a list of options, e.g. choose.{group}=[a,b]")
    wanted = [option.strip() for option in options.strip("[] ").split(",")]
    at = f"choose.{group}."
    present = [package.removeprefix(at) for g, package in composed if g == group and package.startswith(at)]
    words = [f"~{group}@{at}{option}" for option in present if option not in wanted]
    words += [f"+{group}@{at}{option}={option}" for option in wanted if option not in present]
    return [*words, f"~{group}"] if (group, group) in composed else words


def _refuse_contradictions(arguments: Sequence[str]) -> None:
    named = {text.split("=")[0].lstrip("+") for text in arguments if "=" in text and not text.startswith("-")}
    for text in arguments:
        if (match := re.match(r"[+~]*choose\.(\w+)\b", text)) and match[1] in named:
            group = match[1]
            raise UsageError(f"{group}=... takes the place of choose.{group}: remove it or {text.split('=')[0]}")


def _refuse_null(arguments: Sequence[str]) -> None:
    """Hydra answers a group set to null with a traceback."""
    for text in arguments:
        group, _, option = text.partition("=")
        if option == "null" and group in CHOOSABLE:
            raise UsageError(f"{text}: names no option; leave it out, or name one, e.g. {group}=...")


def _composed_groups(arguments: Sequence[str], conf: Path, config_name: str) -> list[tuple[str, str]]:
    """Return (group, package) of every group option in the defaults list."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path, get_args_parser
    from hydra.core.plugins import Plugins
    from hydra.types import RunMode

    Plugins.instance()
    parsed, _ = get_args_parser().parse_known_args(arguments)
    search_path = create_config_search_path(str(conf))
    if own := config_dir(arguments):
        search_path.append("command-line", f"file://{own}")
    loader = ConfigLoaderImpl(config_search_path=search_path)
    run_mode = RunMode.MULTIRUN if parsed.multirun else RunMode.RUN
    found = loader.compute_defaults_list(config_name, parsed.overrides, run_mode).defaults
    return [
        (item.config_path.rpartition("/")[0], str(item.package))
        for item in found
        if item.config_path and "/" in item.config_path
    ]


def config_dir(arguments: Sequence[str]) -> Path | None:
    """Return the user's folder of configurations, if one is named."""
    from hydra._internal.utils import get_args_parser

    parsed, _ = get_args_parser().parse_known_args(arguments)
    return Path(parsed.config_dir).resolve() if parsed.config_dir else None


def options_in(arguments: Sequence[str], conf: Path) -> list[str]:
    """Return those arguments that choose a group's option, e.g. pruner=median."""
    folders = [folder for folder in (conf, config_dir(arguments)) if folder is not None]
    named = [match for text in arguments if (match := _OPTION.fullmatch(text))]
    return [match[0] for match in named if any((folder / match["group"]).is_dir() for folder in folders)]


def override(key: str, value: str) -> str:
    """Return the override that sets the key to that text, e.g. a path, whatever it is made of."""
    if re.fullmatch(r"/[\w./\-]*", value, re.ASCII):
        return f"{key}={value}"
    literal = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)  # OmegaConf would interpolate it
    literal = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + (r"\'" if match[2] else ""), literal)
    return f"{key}='{literal}'"
