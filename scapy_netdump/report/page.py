# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of a report: one HTML file that refers to nothing outside.

Whatever was on the network is text here: made visible first, then escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from ..text import printable


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG, the name of its file, and what it shows."""

    name: str
    title: str
    png: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Part:
    """What there is to see of one way in which a dump was captured."""

    title: str
    sentence: str
    facts: Sequence[tuple[str, str]]
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True)
class Section:
    """All about one dump. ``complete`` and ``verdict`` say whether it is whole, and what use it
    is; ``description`` is what ``netdump info`` says."""

    title: str
    complete: bool
    verdict: str
    description: str
    parts: Sequence[Part]
    pictures: Sequence[Picture]

    @property
    def all_pictures(self) -> list[Picture]:
        """Those of the parts, and its own."""
        return [*(picture for part in self.parts for picture in part.pictures), *self.pictures]


# Nothing but what is in the file may be loaded, even if an escape were forgotten.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 1000px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.25em; margin-top: 2em; border-top: 2px solid #ccc;
  padding-top: 1em; overflow-wrap: anywhere; } h3 { font-size: 1.05em; overflow-wrap: anywhere; }
p.why { font-size: 1.1em; border-left: 5px solid #0072B2; background: #f2f7fb;
  padding: .6em 1em; }
p.good { border-left: 5px solid #009E73; padding-left: 1em; }
p.bad { border-left: 5px solid #D55E00; padding-left: 1em; }
pre { background: #f6f6f6; padding: .8em; white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; } th { text-align: left; font-weight: normal; color: #555;
  padding: .1em 1.5em .1em 0; } td { padding: .1em 0; }
figure { margin: 1.5em 0; } figcaption { color: #555; } img { max-width: 100%; height: auto; }
"""


def page(captures: Sequence[str], sections: Sequence[Section], notes: Iterable[str]) -> str:
    """The page about the dumps in some captures."""
    title = f"netdump report: {', '.join(captures)}"
    body = [f"<h1>{_text(title)}</h1>"]
    noted = "".join(f"<li>{_text(note)}</li>\n" for note in notes)
    if noted:
        body.append(f"<ul>\n{noted}</ul>")
    if not sections:
        body.append("<p>No dump was seen.</p>")
    body += [_section(section) for section in sections]
    return _DOCUMENT.format(
        policy=escape(_POLICY), title=_text(title), style=_STYLE, body="\n".join(body)
    )


_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _section(section: Section) -> str:
    lines = [f"<section>\n<h2>{_text(section.title)}</h2>"]
    lines.append(f'<p class="{"good" if section.complete else "bad"}">{_text(section.verdict)}</p>')
    lines += [_part(part) for part in section.parts]
    if section.pictures:
        lines.append("<h3>What of the file is here</h3>")
        lines += map(_figure, section.pictures)
    described = "\n".join(map(_text, section.description.splitlines()))
    lines.append(f"<h3>In words</h3>\n<pre>{described}</pre>\n</section>")
    return "\n".join(lines)


def _part(part: Part) -> str:
    rows = "\n".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in part.facts
    )
    return "\n".join(
        [
            f"<h3>{_text(part.title)}</h3>",
            f'<p class="why">{_text(part.sentence)}</p>',
            *map(_figure, part.pictures),
            f"<table>\n{rows}\n</table>",
        ]
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    title = _text(picture.title)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{title}">'
        f"<figcaption>{title}</figcaption></figure>"
    )


def _text(text: str) -> str:
    return escape(printable(text))
