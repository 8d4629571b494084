"""The report as a file: what it says, that it needs nothing else, that text cannot act in it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from prm.report import (
    Bin,
    CriticStatistics,
    Difference,
    Estimate,
    FirstErrorCounts,
    LabelStatistics,
    MethodCurve,
    MethodPoint,
    Published,
    Reliability,
    ReliabilityBin,
    ReportData,
    RunFacts,
    ScoredSolution,
    ScoredStep,
    Stage,
    StepMetrics,
    StepMetricsRow,
    TrainingPoint,
    TrainingRun,
    write_report,
)
from prm.report.axes import linear_axis, log2_axis
from prm.report.charts import spread
from prm.report.markup import Html, escape, tag
from prm.report.solutions import colour
from prm.report.wording import (
    duration,
    percent_estimate,
    points,
    reading,
    sentence,
    short_duration,
    shorten,
)

RUN = RunFacts("make quickstart", "2026-03-04", "A & B CPU", 2, "float32", "2.13.0", "3f9c1ab")
EVIL = "Step 1: <script>alert(1)</script> & 'more' \"quotes\""
SECTIONS = (
    "methods",
    "solutions",
    "step-metrics",
    "reliability",
    "labels",
    "training",
    "critic",
    "stages",
    "published",
    "configs",
)


def curve(name: str, kind: str, accuracy: float) -> MethodCurve:
    return MethodCurve(
        name,
        kind,
        (
            MethodPoint(1, 0.5, 0.45, 0.55),
            MethodPoint(2, 0.6, 0.55, 0.64),
            MethodPoint(4, accuracy, accuracy - 0.05, accuracy + 0.04),
        ),
        tokens_per_problem=1234.4,
    )


SOLUTION = ScoredSolution(
    statement="Calculate 3 + 9 + 4.",
    reference_answer="16",
    steps=(ScoredStep(EVIL, 0.95), ScoredStep("Step 2: 12 + 4 = 17\n", 0.2)),
    final_answer="17",
    is_right=False,
    first_error=1,
    aggregates={"min": 0.2, "prod": 0.19},
    critique="Step 2 is <b>wrong</b>.",
)

REPORT = ReportData(
    title="A <small> run",
    run=RUN,
    methods=(
        curve("majority vote", "baseline", 0.62),
        curve("PRM min", "ours", 0.71),
        curve("PRM last", "ours", 0.69),
        curve("pass@N", "bound", 0.9),
    ),
    differences=(
        Difference("PRM min", "majority vote", 0.09, 0.021, 0.16),
        Difference("PRM last", "majority vote", 0.07, 0.0, 0.14),
        Difference("majority vote", "pass@N", -0.28, -0.33, -0.22),
    ),
    references=("majority vote",),
    solutions=(
        SOLUTION,
        dataclasses.replace(SOLUTION, is_right=True, first_error=None, critique=None),
        dataclasses.replace(SOLUTION, is_right=None, first_error=None, has_truth=False),
    ),
    step_metrics=(
        StepMetrics(
            "All problems",
            800,
            (
                StepMetricsRow("PRM", Estimate(0.94, 0.92, 0.96), Estimate(0.78, 0.75, 0.81), 0.7),
                StepMetricsRow("random", None, Estimate(0.2, 0.1, 0.3), 0.1, 0.25),
            ),
        ),
    ),
    reliability=Reliability(
        "PRM", "success_rate", (ReliabilityBin(0.2, 0.25, 10), ReliabilityBin(0.9, 0.8, 40)), 0.09
    ),
    labels=LabelStatistics(
        num_solutions=90,
        num_steps=260,
        num_undecided=7,
        first_error=(FirstErrorCounts(2, (3, 4), 13), FirstErrorCounts(3, (5, 6, 8), 21)),
        success_rates=(Bin(0.0, 0.5, 11), Bin(0.5, 1.0, 242)),
        tokens_by_kind={"siblings": 1_800, "rollouts": 61_000},
        accuracy=Estimate(0.96, 0.95, 0.97),
        right_labels_per_1000_tokens=4.2,
    ),
    training=(
        TrainingRun(
            "PRM seed 0",
            "PRM",
            (TrainingPoint(10, 0.5, 0.6), TrainingPoint(20, 1.0, 0.4, {"Step AUC": 0.9})),
        ),
        TrainingRun("critic", "critic", (TrainingPoint(10, 1.0, float("nan")),)),
    ),
    critic=CriticStatistics(Estimate(0.9, 0.82, 0.95), {"ok": 90, "cut off": 10}),
    stages=(
        Stage("sample", 61.0, 100, 97, "solutions", {"cut off": 3}, 5000, 82.0, 900.0),
        Stage("label", 4.25, 97, 95, "solutions", {"undecided": 1}),
    ),
    published=Published("runs/prm", "scorer = Scorer.from_pretrained('runs/prm')"),
    configs={"sample": "n: 8\nmodel: <tiny>"},
)


@dataclasses.dataclass
class Node:
    """An element of the parsed page."""

    name: str
    attributes: dict[str, str]
    children: list[Node | str] = dataclasses.field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def find(self, name: str, **attributes: str) -> list[Node]:
        return [
            node
            for node in self.walk()
            if node.name == name
            and all(node.attributes.get(key.strip("_")) == v for key, v in attributes.items())
        ]

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class TreeParser(HTMLParser):
    """Builds a tree and insists that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = [Node("root", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {key: value or "" for key, value in attrs})
        self.stack[-1].children.append(node)
        if tag != "meta":
            self.stack.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop().name == tag

    def handle_data(self, data: str) -> None:
        self.stack[-1].children.append(data)


def written(data: ReportData, folder: Path) -> str:
    path = folder / "report.html"
    write_report(data, path)
    return path.read_text("utf-8")


def parsed(text: str) -> Node:
    parser = TreeParser()
    parser.feed(text)
    parser.close()
    assert len(parser.stack) == 1
    return parser.stack[0]


@pytest.fixture
def text(tmp_path: Path) -> str:
    return written(REPORT, tmp_path)


@pytest.fixture
def page(text: str) -> Node:
    return parsed(text)


def section(page: Node, name: str) -> Node:
    return page.find("section", id=name)[0]


def rows(node: Node) -> list[list[str]]:
    """The text of each cell of each table row."""
    return [
        [cell.text for cell in row.children if isinstance(cell, Node)] for row in node.find("tr")
    ]


def test_every_section_is_there_in_order_and_in_the_contents(page: Node) -> None:
    assert tuple(node.attributes["id"] for node in page.find("section")) == SECTIONS
    links = [a.attributes["href"] for a in page.find("nav")[0].find("a")]
    assert links == [f"#{name}" for name in SECTIONS]
    assert "not measured in this run" not in page.find("body")[0].text


def test_headlines_come_first(page: Node) -> None:
    figures = [node.text for node in page.find("strong", class_="figure")]
    assert figures == ["71.0%", "+9.0", "0.780", "65 s"]
    body = [node.name for node in page.find("body")[0].children if isinstance(node, Node)]
    assert body == ["header", "nav", "main", "script"]
    smalls = [node.text for node in page.find("span", class_="small")]
    assert smalls[0] == "95% interval 66.0% to 75.0%"
    assert smalls[1] == "better: +2.1 to +16.0"


def test_text_from_data_never_becomes_markup(text: str, page: Node) -> None:
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#x27;more&#x27;" in text
    assert len(page.find("script")) == 1
    assert not page.find("small")
    assert page.find("h1")[0].text == "A <small> run"
    assert page.find("article")[0].find("span", class_="text")[0].text == EVIL
    assert "Step 2 is <b>wrong</b>." in section(page, "solutions").text
    assert "A & B CPU, 2 cores" in page.find("header", class_="top")[0].text


def test_markup_escapes_text_attributes_and_what_no_page_can_carry() -> None:
    assert tag("p", "<&>", title='"<') == '<p title="&quot;&lt;">&lt;&amp;&gt;</p>'
    assert (
        tag("p", Html("<b>"), hidden=True, id=None, class_="a") == '<p hidden="" class="a"><b></p>'
    )
    assert escape("a\x00b\ud800c\r\nd\te") == "a\ufffdb\ufffdc\nd\te"


def test_lone_surrogate_in_a_step_is_written(tmp_path: Path) -> None:
    broken = dataclasses.replace(SOLUTION, steps=(ScoredStep("bad \udc80", 0.5),), first_error=0)
    assert "bad \ufffd" in written(ReportData("t", RUN, solutions=(broken,)), tmp_path)


def test_page_needs_nothing_but_itself(page: Node) -> None:
    for node in page.walk():
        for name in ("src", "href", "srcset", "action", "style"):
            assert node.attributes.get(name, "#").startswith("#")
        assert not any(key.startswith("on") for key in node.attributes)
    assert not page.find("link") + page.find("img") + page.find("iframe")
    assert not re.search(r"url\(|@import|https?://", page.find("style")[0].text)
    policy = page.find("meta", **{"http-equiv": "Content-Security-Policy"})[0]
    assert policy.attributes["content"].startswith("default-src 'none'; style-src 'sha256-")


def test_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    # Another process, so that another hash seed has its chance to reorder something.
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "from pathlib import Path; import test_report\n"
        "test_report.write_report(test_report.REPORT, Path(sys.argv[1]))"
    )
    other = tmp_path / "other.html"
    subprocess.run([sys.executable, "-c", code, str(other)], check=True, timeout=60)
    written(REPORT, tmp_path)
    assert other.read_bytes() == (tmp_path / "report.html").read_bytes()


def test_empty_run_states_what_was_not_measured(tmp_path: Path) -> None:
    page = parsed(written(ReportData(title="Empty", run=RUN), tmp_path))
    for name in SECTIONS:
        body = section(page, name)
        assert body.find("p", class_="absent")[0].text.endswith(": not measured in this run.")
        assert not body.find("table")
    assert [node.text for node in page.find("strong", class_="figure")] == ["\u2013"] * 4
    assert not page.find("svg")


@pytest.mark.parametrize("field", ["methods", "solutions", "labels", "critic", "stages", "configs"])
def test_one_missing_section_leaves_the_others(tmp_path: Path, field: str) -> None:
    empty = {"labels": None, "critic": None, "configs": {}}.get(field, ())
    page = parsed(written(dataclasses.replace(REPORT, **{field: empty}), tmp_path))
    absent = [name for name in SECTIONS if section(page, name).find("p", class_="absent")]
    assert absent == [field]


def charts(node_text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", node_text, re.S)]


def corners(svg: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    (band,) = [p for p in svg.iter("polygon") if p.get("data-name") == name]
    return [(float(x), float(y)) for x, y in (p.split(",") for p in band.get("points", "").split())]


def test_band_goes_through_the_interval_of_every_point(text: str) -> None:
    svg = next(svg for svg in charts(text) if svg.get("class") == "chart")
    band = corners(svg, "PRM min")
    assert len(band) == 6
    xs = [x for x, _ in band]
    assert xs[:3] == xs[:2:-1]
    # On a base-2 axis 1, 2, 4 are equally far apart.
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    # low = .45 .55 .66, then high = .75 .64 .55, on one linear scale that grows upwards
    shares = [0.45, 0.55, 0.66, 0.75, 0.64, 0.55]
    per_share = (band[0][1] - band[3][1]) / (0.75 - 0.45)
    assert per_share > 0
    for (_, y), share in zip(band, shares, strict=True):
        assert y == pytest.approx(band[0][1] - (share - 0.45) * per_share, abs=0.2)


def test_every_method_has_a_line_a_tooltip_and_a_band_in_some_chart(text: str) -> None:
    drawn = charts(text)
    for method in REPORT.methods:
        bands = [
            p for svg in drawn for p in svg.iter("polygon") if p.get("data-name") == method.name
        ]
        assert bands
        titles = [title.text for svg in drawn for title in svg.iter("title")]
        point = method.points[-1]
        interval = f"{100 * point.low:.1f}%, {100 * point.high:.1f}%"
        assert f"{method.name}, N = 4: {100 * point.accuracy:.1f}% [{interval}]" in titles


def test_charts_are_labelled_for_screen_readers_and_have_their_numbers(page: Node) -> None:
    for svg in page.find("svg", class_="chart"):
        assert svg.attributes["role"] == "img"
        assert svg.attributes["aria-label"]
    for name in ("methods", "reliability", "labels", "training"):
        folded = [node.find("summary")[0].text for node in section(page, name).find("details")]
        assert "The numbers of this chart" in folded


def test_results_table_is_sorted_marks_the_best_of_ours_and_shows_differences(page: Node) -> None:
    table = section(page, "methods").find("table", **{"aria-label": TABLE_TITLE})[0]
    body = rows(table.find("tbody")[0])
    names = ["pass@N", "PRM min ★ best of ours", "PRM last", "majority vote"]
    assert [row[0] for row in body] == names
    assert [row.attributes.get("class") for row in table.find("tr")[1:]] == [
        None,
        "marked",
        None,
        None,
    ]
    assert body[1][1:] == [
        "ours",
        "71.0% [66.0%, 75.0%]",
        "4",
        "1,234",
        "+9.0 [+2.1, +16.0] better",
    ]
    assert body[2][-1] == "+7.0 [0.0, +14.0] no difference shown"
    assert body[3][-1] == "\u2013"


TABLE_TITLE = "Every method at its largest N, the most accurate first"


def test_differences_are_said_in_plain_words(page: Node) -> None:
    said = [li.text for li in page.find("ul", class_="differences")[0].find("li")]
    assert said == [
        "PRM min is better than majority vote (+9.0 [+2.1, +16.0] points).",
        "PRM last against majority vote: no difference shown (+7.0 [0.0, +14.0] points).",
        "majority vote is worse than pass@N (\u221228.0 [\u221233.0, \u221222.0] points).",
    ]


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.001, 0.1, "better"),
        (0.0, 0.1, "no difference shown"),
        (-0.1, 0.1, "no difference shown"),
        (-0.1, 0.0, "no difference shown"),
        (-0.1, -0.001, "worse"),
        (float("nan"), float("nan"), "no difference shown"),
    ],
)
def test_only_an_interval_without_zero_is_a_difference(low: float, high: float, word: str) -> None:
    difference = Difference("a", "b", 0.05, low, high)
    assert reading(difference) == word
    assert word in sentence(difference)


def test_solution_shows_scores_the_true_error_and_what_the_scorer_names(page: Node) -> None:
    first, second, third = page.find("article")
    steps = first.find("ol", class_="steps")[0].find("li")
    assert [step.attributes["class"] for step in steps] == ["q9", "q2 first-error"]
    assert [step.find("span", class_="score")[0].text for step in steps] == ["0.950", "0.200"]
    assert [len(step.find("span", class_="flag")) for step in steps] == [0, 1]
    assert "▲ first error" in steps[1].text
    assert "Answer 17, reference 16 · min 0.200 · prod 0.190" in first.text
    assert "Scorer: first error in step 2. Truth: first error in step 2." in first.text
    assert "Scorer: first error in step 2. Truth: no error." in second.text
    assert "Truth of the steps: not known." in third.text
    facts = [
        (a.attributes["data-verdict"], a.attributes["data-disagrees"])
        for a in (first, second, third)
    ]
    assert facts == [("wrong", "false"), ("right", "true"), ("unknown", "false")]
    assert len(first.find("details")) == 1
    assert not second.find("details")


def test_filter_buttons_count_what_they_show(page: Node) -> None:
    buttons = [b for b in page.find("button") if "data-filter" in b.attributes]
    assert [b.text for b in buttons] == ["All 3", "Right 1", "Wrong 1", "Scorer ≠ truth 1"]


def test_stages_check_that_nothing_was_lost(page: Node) -> None:
    _, sample, label, total = rows(section(page, "stages"))
    assert sample == [
        "sample",
        "1 min 01 s",
        "5,000",
        "82",
        "900 MB",
        "100 solutions",
        "97",
        "3 cut off",
        "100 = 97 + 3 ✓ holds",
    ]
    assert label[2] == "\u2013"
    assert label[-1] == "97 ≠ 95 + 1 ✗ 1 unaccounted"
    assert total[:3] == ["Total", "1 min 05 s", "5,000"]
    assert total[-1] == "✗ broken in 1 stage"


def test_step_metrics_labels_and_critic_are_in_their_tables(page: Node) -> None:
    metrics = rows(section(page, "step-metrics"))
    assert metrics[1] == ["PRM", "0.940 [0.920, 0.960]", "0.780 [0.750, 0.810]", "70.0%", "\u2013"]
    assert metrics[2][-1] == "25.0%"
    labels = rows(section(page, "labels"))
    assert ["Undecided steps (masked)", "7"] in labels
    assert ["Hard labels that agree with the exact truth", "96.0% [95.0%, 97.0%]"] in labels
    assert ["2 steps", "3", "4", "", "13", "20"] in labels
    assert ["3 steps", "5", "6", "8", "21", "40"] in labels
    assert ["rollouts", "61,000"] in labels
    critic = section(page, "critic")
    assert "90.0% [82.0%, 95.0%]" in critic.text
    assert rows(critic)[1:] == [
        ["ok", "90", "90.0%"],
        ["cut off", "10", "10.0%"],
        ["all", "100", ""],
    ]


def test_training_draws_what_is_finite_and_tabulates_all(text: str, page: Node) -> None:
    captions = [node.text for node in section(page, "training").find("figcaption")]
    assert captions == ["Loss, PRM", "Step AUC, PRM", "Loss, critic"]
    assert ["PRM seed 0", "20", "1.00", "0.400"] in rows(section(page, "training"))
    assert ["critic", "10", "1.00", "nan"] in rows(section(page, "training"))
    coordinates = re.findall(r'(?: d| points| x| y| cx| cy)="([^"]*)"', text)
    assert not any("nan" in value or "inf" in value for value in coordinates)


def test_published_folder_and_configs_are_shown(page: Node) -> None:
    assert "runs/prm" in section(page, "published").text
    assert "Scorer.from_pretrained('runs/prm')" in section(page, "published").text
    assert section(page, "configs").find("pre")[0].text == "n: 8\nmodel: <tiny>"


def test_method_measured_at_one_n_only_is_drawn(tmp_path: Path) -> None:
    alone = MethodCurve("only", "ours", (MethodPoint(8, 0.5, 0.5, 0.5),))
    unknown = MethodCurve("unknown", "rival", (MethodPoint(8, 0.4, float("nan"), float("nan")),))
    data = ReportData("t", RUN, methods=(alone, unknown, MethodCurve("none", "rival", ())))
    text = written(data, tmp_path)
    page = parsed(text)
    assert not re.search(r'(?: d| points| x| y| cx| cy)="[^"]*(?:nan|inf)', text)
    assert "N = 8: 50.0% [50.0%, 50.0%]" in section(page, "methods").text


def test_scores_outside_the_scale_and_impossible_errors_are_refused() -> None:
    for score in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="not in"):
            ScoredStep("a", score)
    with pytest.raises(ValueError, match="first error 2"):
        dataclasses.replace(SOLUTION, first_error=2)
    with pytest.raises(ValueError, match="3 steps"):
        FirstErrorCounts(3, (1, 2), 0)
    assert [colour(score) for score in (0.0, 0.0999, 0.1, 0.5, 1.0)] == [
        "q0",
        "q0",
        "q1",
        "q5",
        "q9",
    ]


def test_numbers_read_the_same_everywhere() -> None:
    assert percent_estimate(Estimate(0.8312, 0.8, 0.8625)) == "83.1% [80.0%, 86.2%]"
    assert [points(x) for x in (0.0621, -0.0004, 0.0, -0.01)] == ["+6.2", "0.0", "0.0", "\u22121.0"]
    assert [duration(s) for s in (0.8, 59.99, 725, 11_220)] == [
        "0.8 s",
        "60.0 s",
        "12 min 05 s",
        "3 h 07 min",
    ]
    assert [short_duration(s) for s in (41, 2703, 11_220)] == ["41 s", "45 min", "3.1 h"]
    assert shorten("weighted vote", 9) == "weighted\u2026"


def test_axes_have_round_ticks_around_the_values() -> None:
    axis = linear_axis("Accuracy", [0.452, 0.748], as_percent=True)
    assert [text for _, text in axis.ticks] == ["40%", "50%", "60%", "70%", "80%"]
    assert axis.place(0.4) == 0
    assert axis.place(0.6) == pytest.approx(0.5)
    assert [tick for tick, _ in linear_axis("Loss", [float("nan")]).ticks][-1] == 1.0
    assert [log2_axis("N", [8, 1, 2, 8]).place(n) for n in (1, 2, 8)] == pytest.approx(
        [0, 1 / 3, 1]
    )


def test_end_labels_are_moved_apart_and_stay_inside() -> None:
    assert spread([10, 50, 90], 15, 0, 100) == [10, 50, 90]
    assert spread([50, 52, 54], 10, 0, 100) == [50, 60, 70]
    assert spread([80, 95, 99], 10, 0, 100) == [80, 90, 100]
    assert spread([], 10, 0, 100) == []
