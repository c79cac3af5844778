import io
from typing import Any

import pytest
from rich.console import Console

from search.records import CheckVerdict, Finding
from search.reporting.findings import findings_markdown, findings_table, summary_line


def finding(row: str, verdict: str, sentence: str = "all is well", **more: Any) -> Finding:
    titles = {"R11": "loss at initialisation", "R16": "overfits two examples"}
    return Finding(
        row=row, title=titles.get(row, f"check {row}"), verdict=CheckVerdict(verdict), sentence=sentence, **more
    )


def written(stage: str, findings: list[Finding], *, colours: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=colours, color_system="standard" if colours else None).print(
        findings_table(stage, findings)
    )
    return out.getvalue()


def cells(stage: str, findings: list[Finding]) -> list[str]:
    lines = [line for line in written(stage, findings).splitlines() if line.startswith("│")]
    return [" | ".join(cell.strip() for cell in line.strip("│").split("│")) for line in lines]


GOOD = [finding("R01", "pass"), finding("R02", "pass"), finding("R04", "warn", "12 labels are suspect", advice="look")]
BOTH = [
    finding("R11", "pass", "it is 2.3", subject="model=mlp"),
    finding("R11", "fail", "it is 9.2", subject="model=cnn", advice="lower the scale"),
    finding("R16", "pass", "it fits", subject="model=mlp"),
    finding("R16", "pass", "it fits", subject="model=cnn"),
]


# ------------------------------------------------------------------------------------------------------ the table


def test_each_check_has_a_line_and_advice_one_of_its_own() -> None:
    assert cells("inspect", GOOD) == [
        "R01 | check R01 | pass | all is well",
        "R02 | check R02 | pass | all is well",
        "R04 | check R04 | warn | 12 labels are suspect",
        " |  |  | look",
    ]
    assert written("inspect", GOOD).splitlines()[0].strip() == "inspect"


def test_subjects_have_a_line_each_unless_all_have_the_same() -> None:
    assert cells("preflight", BOTH) == [
        "R11 | loss at initialisation | pass | model=mlp: it is 2.3",
        " |  | fail | model=cnn: it is 9.2",
        " |  |  | lower the scale",
        "R16 | overfits two examples | pass | it fits",
    ]


def test_subjects_that_come_in_turn_are_brought_together() -> None:
    mixed = [BOTH[0], BOTH[2], BOTH[1], BOTH[3]]
    assert cells("preflight", mixed) == cells("preflight", BOTH)


@pytest.mark.parametrize("other", [{"verdict": "warn"}, {"sentence": "no"}, {"advice": "do"}])
def test_what_differs_in_anything_that_is_shown_is_not_one(other: dict[str, str]) -> None:
    same = {"verdict": "fail", "sentence": "yes", "advice": "go"}
    two = [finding("R11", **same, subject="a"), finding("R11", **{**same, **other}, subject="b")]
    assert len([line for line in cells("preflight", two) if ": " in line]) == 2


def test_a_pass_gives_no_advice() -> None:
    assert "idle" not in written("inspect", [finding("R01", "pass", advice="idle")])


def test_markup_is_shown_as_it_is() -> None:
    odd = finding("R01", "fail", "[red]x[/red] [/] [0, 1]", advice="[bold]", subject="model=[a]")
    text = written("inspect", [odd, finding("R01", "pass", "[link=x]")])
    for word in ("model=[a]: [red]x[/red] [/] [0, 1]", "[bold]", "[link=x]"):
        assert word in text


@pytest.mark.parametrize(("verdict", "code"), [("pass", "32"), ("warn", "33"), ("fail", "1;31"), ("skip", "2")])
def test_verdicts_have_their_colours(verdict: str, code: str) -> None:
    assert f"\x1b[{code}m{verdict}" in written("inspect", [finding("R01", verdict)], colours=True)


def test_long_sentences_are_folded_and_not_cut() -> None:
    text = written("inspect", [finding("R01", "warn", "word " * 60 + "x" * 150)])
    assert text.count("word") == 60
    assert text.count("x") == 150


def test_nothing_found_is_an_empty_table() -> None:
    assert cells("inspect", []) == []


# ------------------------------------------------------------------------------------------------------- Markdown


def test_markdown_has_the_same_lines() -> None:
    assert findings_markdown("preflight", BOTH).splitlines() == [
        "**preflight: 1 pass, 1 fail**",
        "",
        "| row | check | verdict | what was found | what to do |",
        "|---|---|---|---|---|",
        "| R11 | loss at initialisation | pass | model=mlp: it is 2.3 |  |",
        "| R11 | loss at initialisation | **fail** | model=cnn: it is 9.2 | lower the scale |",
        "| R16 | overfits two examples | pass | it fits |  |",
    ]


def test_markdown_keeps_its_cells_whatever_they_hold() -> None:
    odd = finding("R01", "warn", "a|b\nc `d` *e* __f__ <g> \\", advice="x |\r\n y")
    line = findings_markdown("inspect", [odd]).splitlines()[-1]
    assert line == r"| R01 | check R01 | **warn** | a\|b c \`d\` \*e\* \_\_f\_\_ \<g> \\ | x \| y |"


def test_markdown_of_nothing_is_a_line() -> None:
    assert findings_markdown("inspect", []) == "**inspect: no checks**"


# ------------------------------------------------------------------------------------------------------- the line

LINES = {
    "nothing": ([], "inspect: no checks"),
    "all good": (GOOD[:2], "inspect: 2 pass"),
    "skipped": ([*GOOD[:1], finding("R03", "skip", "no classes")], "inspect: 1 pass, 1 skip (R03)"),
    "a warning": (GOOD, "inspect: 2 pass, 1 warn (R04 check R04: 12 labels are suspect)"),
    "a failure is named alone": (
        [*BOTH, *GOOD],
        "inspect: 3 pass, 1 warn, 1 fail (R11 loss at initialisation: model=cnn: it is 9.2)",
    ),
    "of all subjects": (
        [finding("R11", "fail", "it\nis 9", subject=name) for name in "abcde"],
        "inspect: 1 fail (R11 loss at initialisation: it is 9)",
    ),
    "many": (
        [finding(f"R0{i}", "warn", "w") for i in range(1, 6)],
        "inspect: 5 warn (R01 check R01: w; R02 check R02: w; R03 check R03: w; and 2 more)",
    ),
}


@pytest.mark.parametrize(("findings", "line"), LINES.values(), ids=LINES)
def test_the_line_names_the_worst(findings: list[Finding], line: str) -> None:
    assert summary_line("inspect", findings) == line
