"""What the checks of a stage found: a table for the terminal, Markdown for MLflow's note, a line for the log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from search.records import CheckVerdict, Finding, worst

_STYLES = {
    CheckVerdict.PASS: "green",
    CheckVerdict.SKIP: "dim",
    CheckVerdict.WARN: "yellow",
    CheckVerdict.FAIL: "bold red",
}
_BAD = (CheckVerdict.FAIL, CheckVerdict.WARN)
_MOST_NAMED = 3
_SPECIAL = re.compile(r"[\\`*_|<]")


def findings_table(stage: str, findings: Sequence[Finding]) -> Table:
    """Return what was found, check by check; subjects of which a check says the same share a line."""
    table = Table(title=stage)
    table.add_column("row", no_wrap=True)
    table.add_column("check", max_width=34)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what was found", overflow="fold")
    before = ""
    for line in _lines(findings):
        of, style = line.finding, _STYLES[line.finding.verdict]
        found = Text(f"{line.named}{of.sentence}", "dim" if of.verdict is CheckVerdict.SKIP else "")
        if line.advice:
            found.append(f"\n{line.advice}", "dim")
        name = ("", "") if of.row == before else (of.row, of.title)  # once for all subjects
        table.add_row(*map(Text, name), Text(of.verdict, style), found)
        before = of.row
    return table


def findings_markdown(stage: str, findings: Sequence[Finding]) -> str:
    """Return what was found in Markdown."""
    lines = [f"**{_escaped(counts_line(stage, findings))}**"]
    if findings:
        lines += ["", "| row | check | verdict | what was found | what to do |", "|---|---|---|---|---|"]
    for line in _lines(findings):
        of = line.finding
        verdict = f"**{of.verdict}**" if of.verdict in _BAD else str(of.verdict)
        cells = (_escaped(of.row), _escaped(of.title), verdict, _escaped(line.named + of.sentence))
        lines.append(f"| {' | '.join((*cells, _escaped(line.advice)))} |")
    return "\n".join(lines)


def counts_line(stage: str, findings: Sequence[Finding]) -> str:
    """Return e.g. `preflight: 13 pass, 1 skip (R15), 1 warn`: each row once, by the worst of its subjects."""
    rows: dict[str, CheckVerdict] = {}
    for finding in findings:
        rows[finding.row] = worst(rows.get(finding.row, finding.verdict), finding.verdict)
    words = []
    for verdict in CheckVerdict:
        those = [row for row, said in rows.items() if said is verdict]
        named = f" ({', '.join(those)})" if verdict is CheckVerdict.SKIP else ""  # the bad ones are told in full
        words += [f"{len(those)} {verdict}{named}"] if those else []
    return f"{stage}: {', '.join(words) or 'no checks'}"


def summary_line(stage: str, findings: Sequence[Finding]) -> str:
    """Return the number of findings by verdict, and the worst of them in words where something is wrong."""
    counts = counts_line(stage, findings)
    worse = next((verdict for verdict in _BAD if any(finding.verdict is verdict for finding in findings)), None)
    if worse is None:
        return counts
    bad = [line for line in _lines(findings) if line.finding.verdict is worse]
    words = [f"{line.finding.row} {line.finding.title}: {line.named}{line.finding.sentence}" for line in bad]
    if len(words) > _MOST_NAMED:
        words[_MOST_NAMED:] = [f"and {len(words) - _MOST_NAMED} more"]
    return f"{counts} ({' '.join('; '.join(words).split())})"


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A finding, and of whom it is told: nobody where all subjects have it."""

    finding: Finding
    named: str

    @property
    def advice(self) -> str:
        return "" if self.finding.verdict is CheckVerdict.PASS else self.finding.advice


def _lines(findings: Sequence[Finding]) -> list[_Line]:
    """Return a line a check that says the same of all its subjects, else a line a subject; rows as they first came."""
    rows: dict[str, list[Finding]] = {}
    for finding in findings:
        rows.setdefault(finding.row, []).append(finding)
    lines = []
    for of_row in rows.values():
        if len({(finding.verdict, finding.sentence, finding.advice) for finding in of_row}) == 1:
            lines.append(_Line(finding=of_row[0], named=""))
        else:
            lines += [_Line(finding=f, named=f"{f.subject}: " if f.subject else "") for f in of_row]
    return lines


def _escaped(text: str) -> str:
    """Return the text as a cell that shows it as it is."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
