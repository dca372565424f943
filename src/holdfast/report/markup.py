"""Pieces of HTML that the page is made of, every piece of text escaped.

    table("", ["Arm", "Rate"], [["advice", "20%"]])   ->   "<div class=wide><table>...<td>20%</td>..."

A cell of a table is HTML that is already escaped; `esc` is what makes it so.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence


def esc(text: object) -> str:
    """Text as HTML. Control characters, which HTML has no place for, are made visible as U+FFFD."""
    return html.escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", str(text).replace("\r\n", "\n")))


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str] | str],
    text: Collection[int] = (0,),
    *,
    cards: bool = False,
) -> str:
    """A table; columns in `text` are aligned left.

    The first cell of a row is its heading, the last of a short one spans the rest. A row that is a string is a remark
    on the row before. With `cards` a narrow screen shows each row as a list of its cells, so that none is out of sight.
    """
    cells = "".join(f"<th{_text(i, text)} scope=col>{cell}</th>" for i, cell in enumerate(head))
    title = f"<caption>{caption}</caption>" if caption else ""
    body = "".join(_row(row, head, text, cards) for row in rows)
    kind = "wide cards" if cards else "wide"
    return f'<div class="{kind}"><table>{title}<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(cells: Sequence[str] | str, head: Sequence[str], text: Collection[int], cards: bool) -> str:
    if isinstance(cells, str):
        return f'<tr class="reason"><td colspan={len(head)}><span>{cells}</span></td></tr>'
    row, last = f"<th scope=row class=text>{cells[0]}</th>", len(cells) - 1
    for i, cell in enumerate(cells[1:], 1):
        span = f" colspan={len(head) - last}" if i == last < len(head) - 1 else ""
        of = f' data-of="{head[i]}"' if cards and not span else ""
        row += f"<td{_text(i, range(i + 1) if span else text)}{span}{of}>{cell}</td>"
    return f"<tr>{row}</tr>"


def _text(i: int, text: Collection[int]) -> str:
    return " class=text" if i in text else ""


def badge(label: str, kind: str) -> str:
    """A label in the colours of `kind`, which is one of the verdicts or "control"."""
    return f'<span class="badge {kind.replace(" ", "-")}">{esc(label)}</span>'


def split(words: str) -> str:
    """Numbers as the page has them: the interval on a line of its own."""
    value, bracket, rest = words.partition(" (")
    return prose(value) + (f"<small>{prose(rest.removesuffix(')'))}</small>" if bracket else "")


def prose(text: str) -> str:
    """Text as HTML, in which arrows and minus signs are true ones."""
    arrows = esc(text).replace("-&gt;", "\N{RIGHTWARDS ARROW}")
    return re.sub(r"(?<![\w.-])-(?=\d)", "\N{MINUS SIGN}", arrows)
