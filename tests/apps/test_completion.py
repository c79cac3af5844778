"""Tab completion, as bash asks for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kits.commands import environment

SCRIPT = f"""#!{sys.executable}
import sys
from search.apps.cli import main
sys.exit(main())
"""

ASK = """
eval "$(search -sc install=bash)"
while read -r COMP_LINE; do
    COMP_LINE="${COMP_LINE%_}"
    COMP_POINT=${#COMP_LINE}
    COMP_WORDS=($COMP_LINE)
    [[ "$COMP_LINE" == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    COMPREPLY=()
    hydra_bash_completion
    echo "${COMPREPLY[*]}"
done
"""
"""Bash leaves the end of a line out when it reads, so an underscore stands there."""

# line -> what may stand there
COMPLETED = {
    "search mod": "model=",
    "search model=": "model=cnn model=gru model=linear model=mlp model=resnet model=transformer",
    "search optimizer.l": "optimizer.lr=",
    "search pruner=m": "pruner=median",
    "search trainer.epochs=": "trainer.epochs=27",
    "search choose.model=": "choose.model=[cnn choose.model=[gru choose.model=[linear choose.model=[mlp "
    "choose.model=[resnet choose.model=[transformer",
    "search choose.model=[mlp,l": "choose.model=[mlp,linear",
    "search choose.model=[linear": "choose.model=[linear]",
    "search choose.model=[mlp] optimizer.l": "optimizer.lr=",
    "search choose.model=[linear] choose.model.": "choose.model.linear.",
    "search stages=[p": "stages=[preflight stages=[preview stages=[predict",
    "search stages=[search,s": "stages=[search,squeeze stages=[search,sync",
    "search --config-dir mine model=n": "model=net",
    "search model=null bud": "",
    "search --no-such-flag mod": "",
    "search 'enqueue=[{model: mlp": "",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one bash answers to all of them; nothing may be said beside, or stay behind."""
    folder, scripts = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("bin")
    (scripts / "search").write_text(SCRIPT)
    (scripts / "search").chmod(0o755)
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "model" / "net.yaml").write_text("_target_: nets.Net\nspace: {}\n")
    own = environment()
    done = subprocess.run(
        ["bash", "-c", ASK],
        cwd=folder,
        env={**own, "PATH": f"{scripts}:{own['PATH']}"},
        input="".join(f"{line}_\n" for line in COMPLETED),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in folder.iterdir()] == ["mine"]
    return dict(zip(COMPLETED, done.stdout.splitlines(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("line", COMPLETED)
def test_tab_completes(line: str, answers: dict[str, str]) -> None:
    assert answers[line] == COMPLETED[line], json.dumps(answers, indent=2)


def test_one_who_asks_in_the_place_of_a_shell_is_told_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "search.apps.cli", "-sc", "query=bash"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("search: -sc query: is for the shell")
    assert done.stderr.count("\n") == 1
