"""Markup that cannot forget to escape: every plain ``str`` is escaped where it enters a tag."""

from __future__ import annotations

import html
import re

# Characters that HTML or UTF-8 cannot carry: controls (but tab and newline), lone surrogates.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
VOID = frozenset({"meta"})


class Html(str):
    """Text that is markup already. Made by `tag`, and from text that this package wrote."""

    __slots__ = ()


def escape(text: str) -> Html:
    """The text as markup; markup stays as it is."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n")), quote=True))


def join(*parts: str) -> Html:
    """The parts one after the other."""
    return Html("".join(escape(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: str | float | bool | None) -> Html:
    """One element. ``class_`` becomes class, ``data_n`` data-n; None and False are left out."""
    opening = name + "".join(
        _attribute(key, value)
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(*children)}</{name}>")


def _attribute(key: str, value: str | float | bool) -> str:
    key = key.rstrip("_").replace("_", "-")
    if value is True:
        return f' {key}=""'
    text = value if isinstance(value, str) else f"{round(value, 2):g}"
    return f' {key}="{escape(text)}"'
