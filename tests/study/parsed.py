"""What a page says, for the tests: its tables as text, its tags with their attributes, and all of its words."""

from __future__ import annotations

from functools import cached_property
from html.parser import HTMLParser

VOID = {"input", "meta", "link", "br", "wbr", "use", "path", "line", "rect"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.tables, self.words, self.comments = [], [], [], []
        self._open = []
        self.feed(text)
        self.close()
        assert not [tag for tag in self._open if tag not in VOID], "tags are left open"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append({"caption": "", "rows": []})
        if tag == "tr":
            self.tables[-1]["rows"].append([])
        if tag in ("td", "th"):
            self.tables[-1]["rows"][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_comment(self, data):
        self.comments.append(data)

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.words.append(data)
        if "caption" in self._open:
            self.tables[-1]["caption"] += data
        elif "td" in self._open or "th" in self._open:
            self.tables[-1]["rows"][-1][-1] += data

    @cached_property
    def text(self):
        return spaced(" ".join(self.words))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def table(self, start):
        return next(table for table in self.tables if table["caption"].startswith(start))["rows"]

    def rows(self, start):
        """The rows of all tables whose caption starts so, without headings and with spaces as one kind."""
        found = [table["rows"][1:] for table in self.tables if table["caption"].startswith(start)]
        return [[spaced(entry) for entry in row] for rows in found for row in rows]


def spaced(text):
    return " ".join(text.split())
