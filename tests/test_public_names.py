"""What `import search` offers, and what it costs."""

import subprocess
import sys

import pytest

import search
from tests.kits.commands import HEAVY, environment

NAMES = ["Examples", "Trial", "current_trial", "inspect", "preflight", "read_study", "report", "run"]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_is_there(name: str) -> None:
    assert callable(getattr(search, name))


def test_they_are_all_that_is_public() -> None:
    assert sorted(search.__all__) == sorted(NAMES)


def test_another_name_is_refused_as_modules_do() -> None:
    with pytest.raises(AttributeError, match="module 'search' has no attribute 'serach'"):
        _ = search.serach


def test_importing_the_package_imports_nothing_else() -> None:
    modules = f"[m for m in (*{HEAVY!r}, 'hydra', 'omegaconf', 'numpy', 'rich') if m in sys.modules]"
    assert python(f"import search, sys; print({modules})") == "[]"


def test_reporting_from_a_program_needs_nothing_heavy_and_does_nothing_outside_of_a_search() -> None:
    code = "import search, sys; search.report(1, loss=2.0); print(search.current_trial())"
    assert python(f"{code}; print([m for m in {HEAVY!r} if m in sys.modules])") == "None\n[]"


def test_examples_need_no_torch() -> None:
    assert python("import search, sys; search.Examples; print('torch' in sys.modules)") == "False"
