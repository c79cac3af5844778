"""Who may import whom: the rule of "Layout and who may import whom" in README, held against every import there is."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import search

ROOT = Path(search.__file__).parent
PLUGINS = ROOT / "_plugins"

LEVELS = {
    "": 0,  # search/__init__.py
    "current": 0,
    "errors": 0,
    "files": 0,
    "keyed": 0,
    "layout": 0,
    "memory": 0,
    "records": 0,
    "traces": 0,
    "space": 1,
    "config": 1,
    "tracking": 1,
    "cluster": 1,
    "train": 2,
    "checks": 3,
    "jobs": 3,
    "trial": 3,
    "sweep": 3,
    "post": 4,
    "reporting": 4,
    "apps": 5,
    "_plugins": 6,
}

OWNERS = {
    # beside the cluster: jobs are submitted over HTTP by who attaches to no cluster, and a batch script asks for its
    # nodes before there is a search
    "ray": ("search.sweep.ray_cluster", "search.sweep.ray_jobs", "search.sweep.ray_nodes"),
    "mlflow": ("search.tracking", "search.post.package", "search.post.served"),
    "torch": ("search.train", "search.checks", "search.trial", "search.post"),
    "optuna": ("search.jobs.calls", "search.space", "search.sweep"),
    "matplotlib": ("search.reporting.figures",),
    "PIL": ("search.reporting.figures", "search.train.data"),
    "hydra": ("search.config", "search.space.overrides", "search.jobs", "search.apps", "search._plugins"),
}
"""Third-party packages and the modules, or packages with all that is in them, that may import each."""

Sources = Mapping[str, str]
"""Source text by dotted name; a package stands under its own name."""


class Imports(ast.NodeVisitor):
    """Collects the dotted name of each import, in functions too; those for type checkers alone never run."""

    def __init__(self, module: str, sources: Sources) -> None:
        self._module, self._sources = module, sources
        self._is_package = any(name.startswith(f"{module}.") for name in sources)
        self.found: list[str] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.found.append(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self._module.split(".")
            parts = parts[: len(parts) - node.level + self._is_package]
            base = ".".join([*parts, *filter(None, [node.module])])
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            self.found.append(submodule if submodule in self._sources else base)

    def visit_Call(self, node: ast.Call) -> None:
        named = ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
        if named and node.args and isinstance(node.args[0], ast.Constant):
            self.found.append(str(node.args[0].value))
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)


def imports_of(sources: Sources) -> Iterator[tuple[str, str]]:
    """Yield (importing module, imported name) of every import."""
    for module, text in sources.items():
        visitor = Imports(module, sources)
        visitor.visit(ast.parse(text))
        for name in visitor.found:
            yield module, name


def group_of(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def wrong_levels(sources: Sources) -> list[str]:
    """Return a sentence for each import that goes up, or across to another group of the same level."""
    wrong = [f"{module}: its group has no level" for module in sources if group_of(module) not in LEVELS]
    for module, name in imports_of(sources):
        if name.split(".")[0] != "search" or group_of(module) not in LEVELS:
            continue
        if name not in sources:
            wrong.append(f"{module} imports {name}, which does not exist")
        elif group_of(name) != group_of(module) and LEVELS.get(group_of(name), 99) >= LEVELS[group_of(module)]:
            wrong.append(f"{module} imports {name}")
    return wrong


def cycles(sources: Sources) -> list[str]:
    """Return the modules of the first cycle found, in order; nothing where there is none."""
    edges: dict[str, set[str]] = {module: set() for module in sources}
    for module, name in imports_of(sources):
        if name in sources:
            edges[module].add(name)
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for name in sorted(edges[module]):
            if found := walk(name, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in edges if (found := walk(module, []))), [])


def wrong_owners(sources: Sources) -> list[str]:
    """Return a sentence for each third-party import by a module that does not own the package."""
    return [
        f"{module} imports {name}"
        for module, name in imports_of(sources)
        if (package := name.split(".")[0]) in OWNERS
        and not any(f"{module}.".startswith(f"{owner}.") for owner in OWNERS[package])
    ]


@pytest.fixture(scope="module")
def sources() -> Sources:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


# --------------------------------------------------------------------------------------------------- the product


def test_a_module_imports_from_its_own_group_or_lower_levels(sources: Sources) -> None:
    assert len(sources) > 40  # that they were found at all
    assert wrong_levels(sources) == []


def test_every_level_is_that_of_a_group_there_is(sources: Sources) -> None:
    assert {group_of(module) for module in sources} == LEVELS.keys()


def test_the_readme_shows_the_same_levels() -> None:
    shown: dict[str, int] = {}
    level = 0
    for row in re.findall(r"^\|\s*(\d?)\s*\|((?: `\w+/?`)+) \|", (ROOT.parent / "README.md").read_text(), re.MULTILINE):
        level = int(row[0] or level)
        shown |= dict.fromkeys(re.findall(r"\w+", row[1]), level)
    assert shown == {group: level for group, level in LEVELS.items() if group}


def test_what_hydra_finds_asks_for_the_application_alone_and_when_it_runs() -> None:
    plugins = {path.stem: path.read_text() for path in PLUGINS.rglob("*.py")}
    names = {name for _, name in imports_of(plugins) if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in names if name.split(".")[0] not in ("hydra", "omegaconf")} == {
        "search",
        "search.apps.sweeper",
    }


def test_modules_import_each_other_in_no_cycle(sources: Sources) -> None:
    assert cycles(sources) == []


def test_each_third_party_package_has_its_owners(sources: Sources) -> None:
    assert wrong_owners(sources) == []


def test_every_permission_is_used(sources: Sources) -> None:
    # one that nobody needs any more is to be taken away
    used = {(module, name.split(".")[0]) for module, name in imports_of(sources)}
    for package, owners in OWNERS.items():
        for owner in owners:
            if owner in sources:
                assert any(f"{module}.".startswith(f"{owner}.") and name == package for module, name in used), owner


@pytest.mark.parametrize("module", [f"search.{group}".rstrip(".") for group, level in LEVELS.items() if level == 0])
def test_the_lowest_level_needs_the_standard_library_only(sources: Sources, module: str) -> None:
    names = {name.split(".")[0] for _, name in imports_of({module: sources[module]})}
    assert names <= sys.stdlib_module_names | {"search"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("search", ("torch", "ray", "mlflow", "optuna", "hydra", "numpy", "pandas")),
        ("search.sweep.driver", ("torch", "ray", "mlflow", "search.train")),
        ("search.space", ("torch", "ray", "mlflow", "optuna")),
        ("search.apps.cli", ("torch", "ray", "mlflow", "optuna")),  # a mistyped key is answered in about a second
        ("search.apps.submit", ("torch", "ray", "mlflow", "optuna")),
        ("search.reporting.figures", ("torch", "ray", "mlflow", "optuna", "pandas", "matplotlib.pyplot")),
        ("search.reporting.findings", ("torch", "ray", "mlflow", "optuna", "matplotlib")),
        ("search.cluster", ("torch", "ray", "mlflow", "optuna", "hydra")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_importing_it_brings_none_of_these(module: str, absent: tuple[str, ...]) -> None:
    code = f"import {module}, sys; print(*[name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.split() == []


def test_such_an_import_would_be_seen() -> None:
    code = "import search.train.loop, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.split() == ["True"]


# --------------------------------------------------------------------------------------------- each rule can fire

SKELETON: Sources = dict.fromkeys(
    [
        *("search", "search.errors", "search.records", "search.space", "search.config", "search.config.schema"),
        *("search.train", "search.train.loop", "search.train.data", "search.train.data.arrays", "search.sweep"),
        *("search.sweep.driver", "search.sweep.study", "search.trial", "search.apps", "search.apps.session"),
    ],
    "",
)

UPWARD = {
    "at the top": ("search.space", "from search.train.loop import Training"),
    "in a function": ("search.space", "def f():\n    import search.train.loop"),
    "in a method": ("search.records", "class A:\n    def f(self):\n        from search import space"),
    "in an else": ("search.space", "if TYPE_CHECKING:\n    pass\nelse:\n    import search.trial"),
    "in a try": ("search.space", "try:\n    import search.trial\nexcept ImportError:\n    pass"),
    "by name": ("search.space", "import importlib\nimportlib.import_module('search.trial')"),
    "relative": ("search.train.data.arrays", "from ...sweep import driver"),
    "relative in a package": ("search.train", "from ..sweep.driver import Driver"),
    "across": ("search.space", "from search.config.schema import Metric"),
    "across, of level 3": ("search.sweep.driver", "from search.trial import Runner"),
    "from the lowest": ("search", "from search.records import Report"),
    "what is not there": ("search.trial", "import search.gone"),
}


@pytest.mark.parametrize(("module", "text"), UPWARD.values(), ids=UPWARD)
def test_an_import_against_the_levels_is_found(module: str, text: str) -> None:
    (sentence,) = wrong_levels({**SKELETON, module: text})
    assert sentence.startswith(f"{module} imports search")


DOWNWARD = {
    "down": ("search.train.loop", "from search.space import Space\nimport search.errors"),
    "own group": ("search.sweep.driver", "from search.sweep.study import Study"),
    "own group, relative": ("search.sweep.driver", "from .study import Study\nfrom . import study"),
    "for type checkers": ("search.space", "if TYPE_CHECKING:\n    from search.train.loop import Training"),
    "for type checkers, dotted": ("search.space", "import typing\nif typing.TYPE_CHECKING:\n    import search.trial"),
    "others": ("search.records", "import json\nfrom numpy import ndarray"),
}


@pytest.mark.parametrize(("module", "text"), DOWNWARD.values(), ids=DOWNWARD)
def test_an_import_within_the_levels_is_none(module: str, text: str) -> None:
    assert wrong_levels({**SKELETON, module: text}) == []


def test_a_group_without_a_level_is_found() -> None:
    assert wrong_levels({**SKELETON, "search.helpers": ""}) == ["search.helpers: its group has no level"]


@pytest.mark.parametrize(
    ("driver", "study"),
    [
        ("import search.sweep.study", "import search.sweep.driver"),
        ("from search.sweep import study", "def f():\n    from search.sweep.driver import Driver"),
        ("def f():\n    from .study import Study", "class A:\n    from . import driver"),
    ],
    ids=["at the top", "in one function", "relative"],
)
def test_a_cycle_is_found(driver: str, study: str) -> None:
    assert cycles({**SKELETON, "search.sweep.driver": driver, "search.sweep.study": study}) == [
        "search.sweep.driver",
        "search.sweep.study",
        "search.sweep.driver",
    ]


def test_two_ways_to_one_module_are_no_cycle() -> None:
    assert not cycles(
        {
            **SKELETON,
            "search.trial": "import search.space, search.errors",
            "search.space": "import search.errors\nif TYPE_CHECKING:\n    import search.trial",
        }
    )


FOREIGN = {
    "ray elsewhere in sweep": ("search.sweep.driver", "import ray"),
    "ray's submodule": ("search.trial", "from ray.actor import ActorHandle"),
    "mlflow in an application": ("search.apps.session", "def f():\n    import mlflow.pyfunc"),
    "torch in the driver": ("search.sweep.driver", "def f():\n    from torch import nn"),
    "torch in a method of the session": ("search.apps.session", "class S:\n    def f(self):\n        import torch"),
    "optuna in training": ("search.train.loop", "import optuna"),
    "hydra in the space": ("search.space", "from hydra.utils import instantiate"),
    "a name that only begins alike": ("search.trials", "import torch"),
}


@pytest.mark.parametrize(("module", "text"), FOREIGN.values(), ids=FOREIGN)
def test_a_third_party_import_by_another_than_its_owner_is_found(module: str, text: str) -> None:
    assert len(wrong_owners({**SKELETON, module: text})) == 1


OWNED = {
    "a package": ("search.train.data.arrays", "import torch"),
    "a module": ("search.trial", "import torch"),
    "for type checkers": ("search.space", "if TYPE_CHECKING:\n    import ray"),
}


@pytest.mark.parametrize(("module", "text"), OWNED.values(), ids=OWNED)
def test_an_owner_may_import_its_package(module: str, text: str) -> None:
    assert wrong_owners({**SKELETON, module: text}) == []
