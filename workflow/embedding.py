"""Pieces from outside as markup that a page may hold: text, lists, tables and pictures; all of it escaped."""

import base64
import io
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import mistune
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from src.plotting.style import PAGE_WIDTH

ACROSS = 900  # pixels that the page gives a figure of PAGE_WIDTH
WIDTHS = (1800, 1200)  # pixels of a picture: twice what the page shows; of a heavy one
HEAVY = 300_000  # bytes
LIGHTER = 0.75  # of a drawing, at which its pixels take its place
SAFE = " =/:;,()!*'-.~?@$+[]|^"  # letters that may stand in an address within quotes, besides those of words
KEPT = ("table", "thead", "tbody", "tr", "th", "td", "caption")  # tags of a table; all others are text
_markdown = mistune.create_markdown(escape=True, plugins=["table"])


def environment() -> Environment:
    """Jinja2 with the templates beside this file; all that they are given is escaped."""
    found = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    found.globals["picture"] = picture
    return found


def table_of(table: pd.DataFrame, *, index: bool = True) -> Markup:
    """A table with its names and cells escaped, which a script may sort; index: whether it heads the rows."""
    return Markup(table.rename_axis(None).to_html(border=0, classes="sortable", index=index))


def as_markdown(text: str) -> Markup:
    """Markdown as HTML; HTML in it is shown as it is written.

    >>> as_markdown("*a* <img src=x>")
    Markup('<p><em>a</em> &lt;img src=x&gt;</p>\\n')
    """
    return Markup(_markdown(text))


def as_lists(text: str) -> Markup:
    """Printed lines as a list; lines that are indented by 2, 4, … are a list under the line before them.

    >>> as_lists("one:\\n  a & b\\ntwo")
    Markup('<ul class="reading"><li>one:<ul><li>a &amp; b</li></ul></li><li>two</li></ul>')
    """
    items: list[tuple[str, list[str]]] = []
    for line in filter(str.strip, text.splitlines()):
        indent = len(line) - len(line.lstrip())
        if items and indent and indent % 2 == 0:
            items[-1][1].append(line[2:])
        else:  # an odd one is a word that was set to the right
            items.append((line.strip(), []))
    if not items:
        return Markup("")
    lines = [
        Markup("<li>{}{}</li>").format(line, as_lists("\n".join(under)).replace(' class="reading"', ""))
        for line, under in items
    ]
    return Markup('<ul class="reading">{}</ul>').format(Markup("").join(lines))


class _Table(HTMLParser):
    """Copies the tags of a table without their attributes; everything else becomes text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.skipped = 0

    def handle_starttag(self, tag, attrs):
        self.skipped += tag == "style"
        if tag in KEPT:
            spans = [f' {name}="{int(value)}"' for name, value in attrs if name in ("colspan", "rowspan")]
            self.parts.append(f"<{tag}{''.join(spans)}>")
        elif tag != "style":
            self.parts.append(str(escape(self.get_starttag_text())))

    def handle_endtag(self, tag):
        self.skipped -= tag == "style"
        if tag in KEPT:
            self.parts.append(f"</{tag}>")
        elif tag != "style":
            self.parts.append(str(escape(f"</{tag}>")))

    def handle_data(self, data):
        if not self.skipped:
            self.parts.append(str(escape(data)))


def clean_table(text: str) -> Markup:
    """A table of a notebook, without styles and attributes; tags that are none of a table's are shown as text.

    Of a pivoted table the names of its rows stand in the one row of its head.

    >>> clean_table('<style>td {}</style><table id="T"><tr><td class="c"><img src=x></td></tr></table>')
    Markup('<div class="wide"><table><tr><td>&lt;img src=x&gt;</td></tr></table></div>')
    """
    parser = _Table()
    parser.feed(re.sub(r"</?div[^>]*>", "", text).strip())
    parser.close()
    head = re.sub(r"(?s)<thead>.*?</thead>", lambda found: _one_row(found[0]), "".join(parser.parts), count=1)
    return Markup('<div class="wide">{}</div>').format(Markup(head))


def _one_row(head: str) -> str:
    """A head of two rows, labels of columns and names of rows, as one row; any other as it is.

    >>> _one_row("<thead><tr><th>radius</th><th>2</th></tr><tr><th>model</th><th>&nbsp;</th></tr></thead>")
    '<thead><tr><th>model</th><th>2</th></tr></thead>'
    """
    rows = [re.findall(r"<th>(.*?)</th>", row, re.S) for row in re.findall(r"<tr>(.*?)</tr>", head, re.S)]
    if len(rows) != 2 or len(rows[0]) != len(rows[1]):
        return head
    blank = [not unescape(cell).strip() for cell in rows[1]]
    n = blank.index(True) if any(blank) else 0
    if not n or not all(blank[n:]):
        return head
    cells = "".join(f"<th>{cell}</th>" for cell in rows[1][:n] + rows[0][n:])
    return f"<thead><tr>{cells}</tr></thead>"


class Picture(NamedTuple):
    """An address that holds the picture, its width and height in pixels or points, and how wide it is in print."""

    address: str
    width: int
    height: int
    inches: float = PAGE_WIDTH


def picture(drawn: Picture | None, title: str, *, alt: str = "", id: str = "") -> Markup:
    """A picture as markup, which the page's script lets a click enlarge; a sentence where there is none.

    >>> "&lt;b&gt;" in picture(Picture("data:,", 2, 1), "<b>")
    True
    """
    if drawn is None:
        return Markup('<p class="soft">The figure was not drawn.</p>')
    shown = Markup('<img class="zoom" id="{}" src="{}" width="{}" height="{}" alt="{}" title="{}"{}>')
    narrow = Markup(' style="max-width: {:.0f}px"').format(ACROSS * drawn.inches / PAGE_WIDTH)
    of_width = narrow if drawn.inches < PAGE_WIDTH else ""  # one scale for all: text is of one size
    return shown.format(f"figure-{id}", *drawn[:3], f"{title}. {alt}".strip(), title, of_width)


def embed_picture(path: Path, *, output: str = "") -> Picture | None:
    """A figure to put into a page: <path>.svg, or <path>.png where that is much lighter.

    output: base64 of a PNG, in place of files that are not there; "" for none.
    """
    svg, png = path.with_suffix(".svg"), path.with_suffix(".png")
    drawing = embed_svg(svg.read_text(encoding="utf-8")) if svg.exists() else None
    content = png.read_bytes() if png.exists() else base64.b64decode(output) if not drawing else b""
    pixels = embed_pixels(content) if content else None
    if drawing and pixels:
        return pixels if len(pixels.address) < LIGHTER * len(drawing.address) else drawing
    return drawing or pixels


def embed_svg(text: str) -> Picture:
    """A drawing without what is not seen: metadata, room between tags, digits beyond a hundredth of a point."""
    text = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]).replace(" \n", " "), text)
    text = re.sub(r">\s+<", "><", text).strip()
    width, height = (round(float(x)) for x in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups())
    return Picture(f"data:image/svg+xml,{quote(text, safe=SAFE)}", width, height, width / 72)


def embed_pixels(content: bytes) -> Picture:
    """A picture as WebP of at most WIDTHS[0] pixels across, or WIDTHS[1] where that would be heavy."""
    opened = Image.open(io.BytesIO(content))
    dots, whole = opened.info.get("dpi", (0, 0))[0], opened.convert("RGB")
    for width in WIDTHS:
        image, file = whole, io.BytesIO()
        if whole.width > width:
            image = whole.resize((width, round(whole.height * width / whole.width)), Image.Resampling.LANCZOS)
        image.save(file, "webp", quality=75)
        if file.tell() < HEAVY:
            break
    address = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Picture(address, *image.size, inches=whole.width / dots if dots else PAGE_WIDTH)
