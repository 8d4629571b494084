"""Where the thinking lies in a text: between ``<think>`` and ``</think>``, or what is left of them.

What is decided here, case by case:

    <think>a</think>b             a is the thinking, b the answer
    a</think>b                    the same: the chat template had written the opening tag
    <think>a                      a: the token limit cut the closing tag off
    a                             None: no thinking, unless the caller knows that the prompt
                                  ended inside it (``is_open``); then all of it
    <think>a</think>b<think>c</think>d    from the first opening to the last closing tag: the
                                  answer, d, is free of thoughts
    <think>a<think>b</think>c</think>d    nested tags: the same rule
    <think>a</think>b<think>c     to the end: cut off while it thought again

A tag that is only mentioned is none: in a code block or inline code, between quotes, or in the
middle of a line while another tag of its kind stands at the edge of one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from prm.traces.blocks import code_mask

# Blanks and line breaks inside a tag are few: the bounds keep the search linear.
TAG = re.compile(r"<\s{0,4}(/?)\s{0,4}think(?:ing)?\s{0,4}>", re.IGNORECASE)
_QUOTES = "\"'“”‘’"
# How far a tag may stand from the edge of its line, in blanks.
_MARGIN = 16


def find_thinking(text: str, *, is_open: bool = False) -> tuple[int, int] | None:
    """The offsets of the thinking, without its tags; None when the text has none.

    ``is_open``: the prompt ended inside the thinking, as QwQ's chat template does.
    """
    opening, closing = _tags(text)
    if not opening and not closing:
        return (0, len(text)) if is_open else None
    begin = 0
    if opening and (not closing or opening[0].start() < closing[0].start()):
        is_first = not text[: opening[0].start()].strip()
        begin = opening[0].end() if is_first or not is_open else 0
    is_cut_off = not closing or (bool(opening) and opening[-1].start() > closing[-1].start())
    return begin, len(text) if is_cut_off else closing[-1].start()


def find_answer(text: str, *, is_open: bool = False) -> int:
    """Where that begins which is no thought: 0 without tags, the end where thoughts are cut off."""
    thinking = find_thinking(text, is_open=is_open)
    if thinking is None:
        return 0
    tag = TAG.match(text, thinking[1])
    return tag.end() if tag else len(text)


def _tags(text: str) -> tuple[list[re.Match[str]], list[re.Match[str]]]:
    """The opening and the closing tags that are meant as tags."""
    found = list(TAG.finditer(text))
    if not found:
        return [], []
    in_code = code_mask(text)
    meant = [tag for tag in found if not in_code[tag.start()] and not _is_quoted(text, tag)]
    closing = _prefer_edges(text, [tag for tag in meant if tag.group(1)])
    opening = [tag for tag in meant if not tag.group(1)]
    at_edges = [tag for tag in opening if _is_at_edge(text, tag)]
    # An opening tag amid a line, never closed, is a word in an answer.
    return at_edges or (opening if closing else []), closing


def _prefer_edges(text: str, tags: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    return [tag for tag in tags if _is_at_edge(text, tag)] or list(tags)


def _is_at_edge(text: str, tag: re.Match[str]) -> bool:
    """Whether the tag begins or ends its line."""
    before = text[max(0, tag.start() - _MARGIN) : tag.start()].rstrip(" \t\ufeff")
    after = text[tag.end() : tag.end() + _MARGIN].lstrip(" \t")
    begins = before[-1:] in ("\n", "\r") if before else tag.start() < _MARGIN
    ends = after[:1] in ("\n", "\r") if after else len(text) - tag.end() < _MARGIN
    return begins or ends


def _is_quoted(text: str, tag: re.Match[str]) -> bool:
    before, after = text[max(0, tag.start() - 1) : tag.start()], text[tag.end() : tag.end() + 1]
    return bool(before) and before in _QUOTES and bool(after) and after in _QUOTES
