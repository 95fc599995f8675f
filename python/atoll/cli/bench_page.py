"""The report of `atoll bench`: one HTML file with plots in SVG, and no scripts."""

import html
from typing import Any

__all__ = ["page_of", "svg_bars", "words_about", "words_of"]

type Row = dict[str, float | None]

# What each column says, by how its name begins; True: more is better.
_MEANING = {
    "start-up": ("Until the first result of a new executor with all workers.", False),
    "memory": ("Proportional set size, divided by the workers.", False),
    "round trip of 1 MB": ("1 MB of bytes there and back, median.", False),
    "round trip": ("An int there and back, median.", False),
    "CPU-bound": ("Loops of some 10 ms each, in pure Python.", True),
    "speed-up": ("Over one worker of the same kind; the CPUs are the bound.", True),
    "web": ("An ASGI application that computes for 1 ms a request.", True),
}

_STYLE = """
:root { --ink: #1d2733; --soft: #5b6b7b; --line: #dde3ea; --ground: #fff;
  --ours: #0b7285; --theirs: #a9b4c0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9aa8b6;
  --line: #303b46; --ground: #14191f; --ours: #3bc9db; --theirs: #56636f; } }
body { color: var(--ink); background: var(--ground); margin: 0 auto; padding: 2rem 1rem;
  max-width: 66rem; font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p, figcaption { color: var(--soft); margin: .2rem 0; }
.plots { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(30rem, 1fr)); }
figure { margin: 0; padding: .9rem; border: 1px solid var(--line); border-radius: 8px; }
figcaption { font-size: .85rem; } figcaption b { display: block; color: var(--ink);
  font-size: 1rem; }
svg { display: block; width: 100%; height: auto; margin-top: .6rem; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg rect { fill: var(--theirs); } svg rect.ours { fill: var(--ours); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; } th:first-child { text-align: left;
  white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
"""


def words_of(value: float) -> str:
    """A number with three digits that count, or without a fraction."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def svg_bars(title: str, values: dict[str, float | None]) -> str:
    """A plot of horizontal bars, one for each of `values`; None is a dash."""
    largest = max([value for value in values.values() if value is not None] + [1e-9])
    parts = []
    for number, (name, value) in enumerate(values.items()):
        y = 24 * number
        width = 0.0 if value is None else max(1.0, 230 * max(value, 0.0) / largest)
        ours = ' class="ours"' if name.startswith("atoll") else ""
        parts.append(
            f'<text x="200" y="{y + 14}" text-anchor="end">{html.escape(name)}</text>'
        )
        if value is not None:
            parts.append(
                f'<rect x="208" y="{y + 2}" width="{width:.1f}" height="16" rx="2"'
                f"{ours}/>"
            )
        text = "-" if value is None else words_of(value)
        parts.append(f'<text x="{214 + width:.1f}" y="{y + 14}">{text}</text>')
    height = 24 * len(values)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 510 {height}" '
        f'role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )


def words_about(report: dict[str, Any]) -> str:
    """The machine and the Python, in a line."""
    gil = "with" if report["gil"] else "without"
    return (
        f"CPython {report['python']} {gil} a GIL, {report['cpus']} CPUs, "
        f"load {report['load']:.1f}, {report['workers']} workers"
    )


def _figure(column: str, values: dict[str, float | None]) -> str:
    said, more = next(
        (meaning for start, meaning in _MEANING.items() if column.startswith(start)),
        ("", True),
    )
    better = "more is better" if more else "less is better"
    return (
        f"<figure><figcaption><b>{html.escape(column)}</b>{html.escape(said)} "
        f"{better.capitalize()}.</figcaption>{svg_bars(column, values)}</figure>"
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else words_of(value)


def _table(rows: dict[str, Row], columns: list[str]) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f"<td>{_cell(row[column])}</td>" for column in columns)
        + "</tr>"
        for name, row in rows.items()
    )
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _warnings(report: dict[str, Any]) -> str:
    """What makes the numbers worth less than they look."""
    said = []
    if report["quick"]:
        said.append("A quick run: rough numbers.")
    if report["load"] > 0.5:
        said.append(
            f"Other programs kept the machine at a load of {report['load']:.1f} as it "
            "began: the numbers are lower than on an idle one, and less steady."
        )
    said += [f"{name} failed: {reason}" for name, reason in report["failed"].items()]
    return "".join(f"<p>{html.escape(one)}</p>" for one in said)


def page_of(report: dict[str, Any]) -> str:
    """The report as a page that stands alone."""
    rows: dict[str, Row] = report["rows"]
    columns = list(next(iter(rows.values())))
    figures = "".join(
        _figure(column, {name: row[column] for name, row in rows.items()})
        for column in columns
    )
    machine = f"{words_about(report)}, {report['machine']}, {report['system']}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>atoll bench</title><style>{_STYLE}</style></head><body>"
        "<h1>Models of parallel Python</h1>"
        f"<p>{html.escape(machine)}</p>{_warnings(report)}"
        f'<h2>Plots</h2><div class="plots">{figures}</div>'
        f"<h2>Numbers</h2>{_table(rows, columns)}"
        "<p>Each contender has a process of its own. “threads”, “interpreters” and "
        "“multiprocessing” are the executors of concurrent.futures (processes are "
        "spawned); for the web the last one is uvicorn, the client included in the load."
        "</p></body></html>\n"
    )
