"""A comparison in a terminal, and as a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from aebench.results.comparison import Comparison, Figure, Verdict
from aebench.results.matrix import MatrixResults

COLOURS = {"holds": "green", "fails": "red", "undecided": "dim"}
HEADINGS = ("quantity", "model", "published", "measured", "95 % of single runs", "difference", "inside")


def as_tables(comparison: Comparison) -> Group:
    """Figures, then claims with a column for each procedure."""
    title = f"{comparison.title} · {comparison.dataset}, {_seeds(comparison)}"
    parts: list[Table | Text] = []
    if comparison.figures:
        figures = Table(title=title, title_style="bold", header_style="bold")
        for heading in HEADINGS:
            figures.add_column(heading, justify="left" if heading in HEADINGS[:2] else "right")
        before = ""
        for figure in comparison.figures:
            if before and figure.quantity != before:
                figures.add_section()
            before = figure.quantity
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
        claims.add_row(verdicts[0].text, *(Text(_said(verdict), COLOURS[verdict.verdict]) for verdict in verdicts))
    return Group(*parts, claims)


def as_page(results: MatrixResults, comparisons: Sequence[Comparison]) -> str:
    """Everything a comparison says, with the matrix it rests on."""
    return "\n".join(_page(results, comparisons)) + "\n"


def _page(results: MatrixResults, comparisons: Sequence[Comparison]) -> Iterator[str]:
    for comparison in comparisons:
        yield f"# {comparison.title}, put to the test"
        yield ""
        yield f"Written by `aebench compare --out FILE` from matrix `{comparison.matrix}`:"
        yield f"{comparison.dataset}, {_seeds(comparison)}."
        yield ""
        yield "## In short"
        yield ""
        yield from _in_short(comparison)
        yield "## Which conclusions stand"
        yield ""
        yield "A claim *holds* when the bootstrap over seeds gives it a probability of at least 0.95, *fails* when that"
        yield "is at most 0.05, and is *undecided* in between or when it was not measured."
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
            yield "Under the study's own procedure. A published figure is that of one run; it is *inside* when it lies"
            yield "where 95 % of single runs would, judging by the spread over our seeds."
            yield ""
            yield f"| {' | '.join(HEADINGS)} |"
            yield "|---|---|" + "--:|" * (len(HEADINGS) - 2)
            for figure in comparison.figures:
                yield f"| {' | '.join(_cells(figure))} |"
            yield ""
    yield "## The matrix"
    yield ""
    if results.is_repeated:
        yield "Means with 95 % intervals over seeds; models that cannot be told apart share the place in brackets."
    else:
        yield "One seed: no two models can be told apart."
    yield ""
    yield results.to_markdown()


def _in_short(comparison: Comparison) -> Iterator[str]:
    """Claims gathered by what the last procedure, on which conclusions should rest, and the others say of them."""
    deciding = _procedures(comparison)[-1] if comparison.verdicts else ""
    headings = {"holds": "Stand", "fails": "Do not stand", "undecided": "Cannot be decided"}
    for outcome, heading in headings.items():
        lines = []
        for verdicts in _by_claim(comparison):
            *others, last = verdicts
            if last.verdict == outcome:
                differing = [
                    f"{other.verdict} under the {other.procedure} procedure"
                    for other in others
                    if other.verdict not in ("undecided", last.verdict)
                ]
                lines.append(f"- {last.text}" + (f" (but it {', '.join(differing)})" if differing else ""))
        if lines:
            yield f"{heading}, judged under the {deciding} procedure:"
            yield ""
            yield from lines
            yield ""


def _procedures(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(verdict.procedure for verdict in comparison.verdicts))


def _by_claim(comparison: Comparison) -> list[list[Verdict]]:
    claims = dict.fromkeys(verdict.claim for verdict in comparison.verdicts)
    return [[verdict for verdict in comparison.verdicts if verdict.claim == claim] for claim in claims]


def _said(verdict: Verdict) -> str:
    if verdict.probability is None:
        return f"{verdict.verdict}: {verdict.reason}"
    return f"{verdict.verdict} (p = {verdict.probability:.3f})"


def _emphasised(verdict: Verdict) -> str:
    said = _said(verdict)
    return said if verdict.verdict == "undecided" else f"**{verdict.verdict}**{said.removeprefix(verdict.verdict)}"


def _cells(figure: Figure) -> tuple[str, ...]:
    if figure.measured is None:
        return figure.quantity, figure.model, f"{figure.published:g}", "–", figure.reason, "–", "–"
    span = "one seed" if figure.low is None or figure.high is None else f"{_short(figure.low)} to {_short(figure.high)}"
    inside = {True: "yes", False: "no", None: "?"}[figure.inside]
    difference = f"{figure.difference:+.1%}" if figure.published > 1 else f"{figure.measured - figure.published:+.3f}"
    return figure.quantity, figure.model, f"{figure.published:g}", _short(figure.measured), span, difference, inside


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) > 1 else f"{value:.3f}"


def _seeds(comparison: Comparison) -> str:
    return f"{comparison.seeds} seeds" if comparison.seeds > 1 else "one seed"
