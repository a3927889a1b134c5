"""Put the parts of a report into one HTML page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; color: #1b1b1b; margin: 0 auto;
       max-width: 1500px; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; }
h2 { font-size: 1.25rem; margin-top: 2.4rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
h3 { font-size: 1.05rem; margin-top: 1.6rem; }
p, li, dd { max-width: 76ch; }
dt { font-weight: 600; margin-top: .55rem; }
dd { margin: 0 0 0 1.2rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .3rem 0; color: #444; font-size: .85rem; max-width: 110ch; }
th, td { padding: .22rem .55rem; text-align: right; white-space: nowrap;
         border-bottom: 1px solid #e6e6e6; }
th { background: #f4f5f7; font-weight: 600; }
th[colspan] { text-align: center; border-left: 2px solid #fff; }
tbody th, th:first-child { text-align: left; position: sticky; left: 0; background: #f4f5f7; }
small { color: #666; }
img { max-width: min(100%, 1180px); height: auto; }
figure { margin: 1rem 0; }
figcaption { font-size: .9rem; color: #444; max-width: 90ch; }
.good { color: #00603f; font-weight: 600; } .bad { color: #a33a00; font-weight: 600; }
.note { background: #fff6e5; border-left: 4px solid #e69f00; padding: .6rem .9rem;
        max-width: 80ch; }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """Returns a complete HTML document, its style and pictures inside it."""
    body = "\n".join(sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def table(
    groups: Sequence[tuple[str, int]],
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str,
) -> str:
    """Returns a table; the first cell of a row is its heading.

    Args:
        groups: headings above the headings, with the number of columns each spans.
        heads: one a column.
        rows: cells, already HTML.
        caption: what the table shows, already HTML.
    """
    above = "".join(f'<th colspan="{span}">{escape(name)}</th>' for name, span in groups)
    above = f"<tr>{above}</tr>" if groups else ""
    titles = "".join(f"<th>{head}</th>" for head in heads)
    lines = "\n".join(
        f"<tr><th>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><caption>{caption}</caption>'
        f"<thead>{above}<tr>{titles}</tr></thead>\n<tbody>{lines}</tbody></table></div>"
    )


def picture(png: bytes, *, description: str, caption: str) -> str:
    """Returns a figure whose PNG is part of the page; ``caption`` is already HTML."""
    encoded = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(description)}" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
