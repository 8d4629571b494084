"""The page: one HTML file that needs nothing but itself, and reads without its script.

The content security policy lets the browser run and style only what was written here, by hash,
and load nothing: text from data could not act even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from prm.report.data import ReportData
from prm.report.elements import absent
from prm.report.headlines import headlines
from prm.report.markup import Html, join, tag
from prm.report.measures import (
    critic_section,
    labels_section,
    reliability_section,
    step_metrics_section,
    training_section,
)
from prm.report.methods import methods_section
from prm.report.solutions import solutions_section
from prm.report.stages import configs_section, published_section, stages_section

SECTIONS: tuple[tuple[str, str, Callable[[ReportData], Html | None]], ...] = (
    ("methods", "Choosing an answer", methods_section),
    ("solutions", "Steps, coloured by their scores", solutions_section),
    ("step-metrics", "Finding the wrong step", step_metrics_section),
    ("reliability", "Calibration", reliability_section),
    ("labels", "Labels", labels_section),
    ("training", "Training", training_section),
    ("critic", "Critic", critic_section),
    ("stages", "Stages and their costs", stages_section),
    ("published", "Using the scorer", published_section),
    ("configs", "Resolved configuration", configs_section),
)


def write_report(data: ReportData, path: Path) -> None:
    """Write the report as one file. The same data give the same bytes.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_bytes(render(data).encode("utf-8"))


def render(data: ReportData) -> str:
    """The whole page as text."""
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", data.title),
        tag("style", style),
    )
    body = tag("body", _header(data), _contents(), _main(data), tag("script", script))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _asset(name: str) -> Html:
    return Html(resources.files("prm.report").joinpath(name).read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    """The text as a content security policy names it."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _contents() -> Html:
    items = (tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in SECTIONS)
    return tag("nav", tag("ol", *items), aria_label="Contents")


def _main(data: ReportData) -> Html:
    sections = (
        tag("section", tag("h2", title), build(data) or absent(title), id=name)
        for name, title, build in SECTIONS
    )
    return tag("main", *sections)


def _header(data: ReportData) -> Html:
    run = data.run
    machine = (
        f"{run.cpu}, {run.cores} cores · {run.dtype} · torch {run.torch_version} · "
        f"commit {run.commit}"
    )
    return tag(
        "header",
        tag("h1", data.title),
        tag("p", tag("code", run.command), join(" · ", run.date), class_="subtitle"),
        tag("p", machine, class_="subtitle"),
        headlines(data),
        class_="top",
    )
