"""Comparisons with studies, as tables in a terminal and as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from aebench.report.tables import markdown_table
from aebench.results.comparison import Comparison, Figure, Verdict
from aebench.results.matrix import MatrixResults

COLOURS = {"holds": "green", "fails": "red", "undecided": "dim"}
HEADINGS = ("quantity", "model", "published", "measured", "95 % of single runs", "difference", "inside")


def as_tables(comparison: Comparison) -> Group:
    """The table of figures, then the table of claims with a column for each procedure."""
    title = f"{comparison.title} · {comparison.dataset}, {_seeds(comparison)}"
    parts: list[Table | Text] = []
    if comparison.figures:
        figures = Table(title=title, title_style="bold", header_style="bold")
        for heading in HEADINGS:
            figures.add_column(heading, justify="left" if heading in HEADINGS[:2] else "right")
        previous = ""
        for figure in comparison.figures:
            if previous and figure.quantity != previous:
                figures.add_section()
            previous = figure.quantity
            style = {True: "green", False: "red", None: ""}[figure.inside]
            *cells, inside = _cells(figure)
            figures.add_row(*cells, Text(inside, style=style))
        parts.append(figures)
    else:
        parts.append(Text(f"{comparison.title} has no figures for {comparison.dataset}."))
    claims = Table(title="" if comparison.figures else title, title_style="bold", header_style="bold")
    claims.add_column("claim", overflow="fold")
    for procedure in _procedures(comparison):
        claims.add_column(procedure, overflow="fold")
    for verdicts in _by_claim(comparison):
        outcomes = [Text(format_verdict(verdict), COLOURS[verdict.verdict]) for verdict in verdicts]
        claims.add_row(verdicts[0].text, *outcomes)
    return Group(*parts, claims)


def as_page(results: MatrixResults, comparisons: Sequence[Comparison]) -> str:
    """A Markdown page with the claims and figures of each study, and the table of the matrix."""
    return "\n".join(_page(results, comparisons)) + "\n"


def _page(results: MatrixResults, comparisons: Sequence[Comparison]) -> Iterator[str]:
    for comparison in comparisons:
        yield f"# {comparison.title}, put to the test"
        yield ""
        yield f"Written by `aebench compare --out FILE` from matrix `{comparison.matrix}`:"
        yield f"{comparison.dataset}, {_seeds(comparison)}."
        yield ""
        yield "## Summary"
        yield ""
        yield from _summary(comparison)
        yield "## Claims"
        yield ""
        yield "A claim *holds* if its probability by the bootstrap over seeds is at least 0.95, *fails* if it is at"
        yield "most 0.05, and is *undecided* in between or if it was not measured."
        yield ""
        procedures = _procedures(comparison)
        yield f"| claim | {' | '.join(procedures)} |"
        yield "|---|" + "---|" * len(procedures)
        for verdicts in _by_claim(comparison):
            yield f"| {verdicts[0].text} | {' | '.join(_emphasised(verdict) for verdict in verdicts)} |"
        yield ""
        if comparison.figures:
            yield "## Published and measured figures"
            yield ""
            yield "Measured under the study's own procedure. A published figure comes from one run; it is *inside* if"
            yield "it lies in the 95 % prediction interval of a single run, computed from the spread over our seeds."
            yield ""
            yield f"| {' | '.join(HEADINGS)} |"
            yield "|---|---|" + "--:|" * (len(HEADINGS) - 2)
            for figure in comparison.figures:
                yield f"| {' | '.join(_cells(figure))} |"
            yield ""
    yield "## The matrix"
    yield ""
    if results.is_repeated:
        yield "Means with 95 % confidence intervals over seeds. In brackets: ranks. Models that do not differ"
        yield "significantly share a rank."
    else:
        yield "One seed: differences between models cannot be tested."
    yield ""
    yield markdown_table(results)


def _summary(comparison: Comparison) -> Iterator[str]:
    """Claims by their verdict under the last procedure, with the procedures that contradict it."""
    deciding = _procedures(comparison)[-1] if comparison.verdicts else ""
    headings = {"holds": "Claims that hold", "fails": "Claims that fail", "undecided": "Undecided claims"}
    for outcome, heading in headings.items():
        lines = []
        for verdicts in _by_claim(comparison):
            *others, last = verdicts
            if last.verdict == outcome:
                contradicting = [
                    f"{other.verdict} under the {other.procedure} procedure"
                    for other in others
                    if other.verdict not in ("undecided", last.verdict)
                ]
                lines.append(f"- {last.text}" + (f" (but {', '.join(contradicting)})" if contradicting else ""))
        if lines:
            yield f"{heading} under the {deciding} procedure:"
            yield ""
            yield from lines
            yield ""


def _procedures(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(verdict.procedure for verdict in comparison.verdicts))


def _by_claim(comparison: Comparison) -> list[list[Verdict]]:
    claims = dict.fromkeys(verdict.claim for verdict in comparison.verdicts)
    return [[verdict for verdict in comparison.verdicts if verdict.claim == claim] for claim in claims]


def format_verdict(verdict: Verdict) -> str:
    """The verdict with its probability, or with the reason why there is none."""
    if verdict.probability is None:
        return f"{verdict.verdict}: {verdict.reason}"
    return f"{verdict.verdict} (p = {verdict.probability:.3f})"


def _emphasised(verdict: Verdict) -> str:
    text = format_verdict(verdict)
    return text if verdict.verdict == "undecided" else f"**{verdict.verdict}**{text.removeprefix(verdict.verdict)}"


def _cells(figure: Figure) -> tuple[str, ...]:
    if figure.measured is None:
        return figure.quantity, figure.model, f"{figure.published:g}", "–", figure.reason, "–", "–"
    interval = "one seed"
    if figure.low is not None and figure.high is not None:
        interval = f"{format_number(figure.low)} to {format_number(figure.high)}"
    inside = {True: "yes", False: "no", None: "?"}[figure.inside]
    difference = f"{figure.difference:+.1%}" if figure.published > 1 else f"{figure.measured - figure.published:+.3f}"
    numbers = f"{figure.published:g}", format_number(figure.measured), interval, difference
    return figure.quantity, figure.model, *numbers, inside


def format_number(value: float) -> str:
    """Two decimals above 1 in absolute value, else three."""
    return f"{value:.2f}" if abs(value) > 1 else f"{value:.3f}"


def _seeds(comparison: Comparison) -> str:
    return f"{comparison.seeds} seeds" if comparison.seeds > 1 else "one seed"
