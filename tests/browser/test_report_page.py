"""The report in a real browser: it renders, runs its script without error, and fits a phone.

Needs the Debian package `chromium`; its absence is a failure, never a skip.
"""

from __future__ import annotations

import itertools
import random
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import NamedTuple

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

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)
NUM_SOLUTIONS = 40
# name, kind, accuracy at N = 1, 2, 4, 8
METHODS = (
    ("pass@N (knows the truth)", "bound", (0.52, 0.68, 0.81, 0.89)),
    ("one sample, greedy", "bound", (0.52, 0.52, 0.52, 0.52)),
    ("random choice", "baseline", (0.52, 0.52, 0.515, 0.52)),
    ("shortest solution", "baseline", (0.52, 0.53, 0.545, 0.55)),
    ("majority vote", "baseline", (0.52, 0.52, 0.60, 0.655)),
    ("log-probability", "rival", (0.52, 0.575, 0.63, 0.66)),
    ("self-certainty vote", "rival", (0.52, 0.57, 0.62, 0.668)),
    ("PRM min, best-of-N", "ours", (0.52, 0.62, 0.70, 0.757)),
    ("PRM last, best-of-N", "ours", (0.52, 0.61, 0.685, 0.742)),
    ("PRM min, weighted vote", "ours", (0.52, 0.62, 0.71, 0.772)),
    ("PRM beam search", "ours", (0.52, 0.61, 0.70, 0.765)),
    ("critic, best-of-N", "critic", (0.52, 0.58, 0.64, 0.692)),
)
REFERENCES = ("majority vote", "log-probability")


def around(value: float, half: float = 0.028) -> Estimate:
    return Estimate(value, value - half, value + half)


def solution(rng: random.Random, index: int) -> ScoredSolution:
    """A chain of sums of which about half go wrong at some step, with a fallible scorer."""
    numbers = [rng.randint(2, 19) for _ in range(rng.randint(3, 5))]
    first_error = rng.choice([None, *range(len(numbers) - 1)]) if index % 2 else None
    total, steps = numbers[0], []
    for place, number in enumerate(numbers[1:]):
        slip = rng.choice([-2, -1, 1, 10]) if place == first_error else 0
        is_wrong = first_error is not None and place >= first_error
        score = min(max(rng.gauss(0.18 if is_wrong else 0.9, 0.2), 0.004), 0.997)
        text = f"Step {place + 1}: {total} + {number} = {total + number + slip}\n"
        steps.append(ScoredStep(text, round(score, 3)))
        total += number + slip
    scores = [step.score for step in steps]
    steps.append(ScoredStep(f"Answer: {total}", min(scores)))
    return ScoredSolution(
        statement=f"Calculate {' + '.join(map(str, numbers))}.",
        reference_answer=str(sum(numbers)),
        steps=tuple(steps),
        final_answer=str(total),
        is_right=total == sum(numbers),
        first_error=first_error,
        aggregates={"min": min(scores), "last": scores[-1], "mean": sum(scores) / len(scores)},
        critique=None if index % 3 else f"Step 1 holds.\nSo 1 & 2 < {total}.\nFirst error: none",
    )


def training_run(rng: random.Random, name: str, kind: str, num_points: int) -> TrainingRun:
    points = []
    for index in range(num_points):
        loss = 0.16 + 0.5 * 0.93**index + rng.gauss(0, 0.012)
        luck = rng.gauss(0, 0.012)
        metrics = {
            "Step AUC": 0.93 - 0.4 * 0.88**index + luck,
            "First-error F1": 0.8 - 0.6 * 0.9**index + luck,
        }
        held_out = metrics if kind == "PRM" and index % 6 == 5 else {}
        points.append(TrainingPoint(10 * (index + 1), (index + 1) / 20, loss, held_out))
    return TrainingRun(name, kind, tuple(points))


def differences() -> tuple[Difference, ...]:
    last = {name: accuracies[-1] for name, _, accuracies in METHODS}
    return tuple(
        Difference(name, other, gap, gap - 0.045, gap + 0.045)
        for name, kind, _ in METHODS
        if kind in ("ours", "critic")
        for other in REFERENCES
        if (gap := last[name] - last[other]) is not None
    )


def label_statistics(rng: random.Random) -> LabelStatistics:
    rates = [220, 64, 41, 33, 38, 52, 70, 95, 180, 1210]
    return LabelStatistics(
        num_solutions=1600,
        num_steps=6412,
        num_undecided=37,
        first_error=tuple(
            FirstErrorCounts(n, tuple(rng.randint(20, 90) for _ in range(n)), 60 * n)
            for n in (3, 4, 5)
        ),
        success_rates=tuple(Bin(i / 10, (i + 1) / 10, rates[i]) for i in range(10)),
        tokens_by_kind={"siblings": 182_400, "rollouts": 611_382},
        accuracy=around(0.961, 0.006),
        right_labels_per_1000_tokens=7.764,
    )


def stages() -> tuple[Stage, ...]:
    return (
        Stage("problems", 0.8, 400, 400, "problems"),
        Stage("sample", 412.0, 3200, 3181, "solutions", {"cut off": 19}, 291_304, 707.1, 1204.0),
        Stage("label", 531.5, 3181, 3144, "solutions", {"undecided": 37}, 793_782, 1493.4, 1310.0),
        Stage("train PRM", 903.2, 3144, 3144, "solutions", {}, 512_400, 567.3, 1822.0),
        Stage(
            "train critic", 611.0, 1190, 1181, "critiques", {"too long": 9}, 402_118, 658.1, 1790.0
        ),
        Stage("evaluate", 244.9, 800, 799, "solutions", {}, 61_204, 250.0, 1105.0),
    )


def step_metrics(title: str, num_solutions: int, loss: float) -> StepMetrics:
    rows = (
        StepMetricsRow("PRM", around(0.941 - loss), around(0.783 - loss), 0.731, 0.842),
        StepMetricsRow("critic", None, around(0.688 - loss), 0.602, 0.801),
        StepMetricsRow("logistic control", around(0.702 - loss), around(0.391), 0.3, 0.561),
        StepMetricsRow("random", around(0.5), around(0.21), 0.18, 0.252),
    )
    return StepMetrics(title, num_solutions, rows)


def method_curves() -> tuple[MethodCurve, ...]:
    return tuple(
        MethodCurve(
            name,
            kind,
            tuple(
                MethodPoint(n, a, a - 0.035, a + 0.033)
                for n, a in zip((1, 2, 4, 8), accuracies, strict=True)
            ),
            None if kind == "bound" else 412.0 + 90 * len(name),
        )
        for name, kind, accuracies in METHODS
    )


def sample_report() -> ReportData:
    rng = random.Random(0)
    return ReportData(
        title="Quickstart: a judge of steps, from nothing",
        run=RunFacts(
            "make quickstart",
            "2026-03-04 11:20 UTC",
            "Intel Xeon 2.1 GHz",
            2,
            "float32",
            "2.13.0",
            "3f9c1ab",
        ),
        methods=method_curves(),
        differences=differences(),
        references=REFERENCES,
        solutions=tuple(solution(rng, index) for index in range(NUM_SOLUTIONS)),
        step_metrics=(
            step_metrics("All problems", 800, 0.0),
            step_metrics("Problems with an unseen operand pair", 212, 0.03),
        ),
        reliability=Reliability(
            "PRM",
            "P(this step and all before it are right)",
            tuple(
                ReliabilityBin(i / 10 + 0.05, min((i / 10 + 0.05) ** 1.25 + 0.01, 1.0), n)
                for i, n in enumerate((410, 120, 66, 51, 48, 60, 77, 130, 320, 1480))
            ),
            0.031,
        ),
        labels=label_statistics(rng),
        training=(
            *(training_run(rng, f"PRM seed {seed}", "PRM", 60) for seed in range(3)),
            training_run(rng, "critic", "critic", 36),
        ),
        critic=CriticStatistics(
            Estimate(0.955, 0.939, 0.967),
            {"ok": 764, "no verdict": 21, "steps skipped": 12, "cut off": 3},
        ),
        stages=stages(),
        published=Published(
            "runs/quickstart/prm",
            "from prm.scoring import Scorer\n\nscorer = Scorer.from_pretrained('runs/prm')\n",
        ),
        configs={"sample": "model: smol\nn: 8\ntemperature: 0.8", "train_prm": "lr: 1.0e-4"},
    )


class Visit(NamedTuple):
    """What the browser left after it had shown a page."""

    dom: str
    console: list[str]


def visit(chromium: str, page: Path, profile: Path, *flags: str) -> Visit:
    command = [
        chromium,
        *FLAGS,
        f"--user-data-dir={profile}",
        *flags,
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Visit(done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line])


def root_data(dom: str) -> dict[str, str]:
    """The data- attributes that the page's script wrote on <html>."""
    opening = re.search(r"<html[^>]*>", dom)
    assert opening is not None
    return dict(re.findall(r'data-([a-z-]+)="([^"]*)"', opening.group()))


def read_png(path: Path) -> tuple[int, int, set[bytes]]:
    """Width, height and the distinct bytes of the filtered rows (one row's worth if blank)."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    chunks, place = [], 8
    while place < len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        if kind == b"IDAT":
            chunks.append(content[place + 8 : place + 8 + length])
        place += length + 12
    pixels = zlib.decompress(b"".join(chunks))
    stride = len(pixels) // height
    return width, height, {pixels[row * stride : (row + 1) * stride] for row in range(height)}


@pytest.fixture(scope="module")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        pytest.fail(
            "no chromium on the PATH; remedy: "
            "apt-get update && apt-get install -y --no-install-recommends chromium"
        )
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(sample_report(), path)
    return path


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    return tmp_path / "profile"


def without_policy(page: Path, name: str, script: str) -> Path:
    """A copy of the page with one more script, which its policy would rightly block."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
    copy = page.with_name(name)
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    return copy


def test_page_renders_and_its_script_runs(chromium: str, page: Path, profile: Path) -> None:
    seen = visit(chromium, page, profile, "--window-size=1280,900")
    facts = root_data(seen.dom)
    assert facts["script"] == "ran"
    assert facts["shown"] == "12"
    assert int(facts["scroll-width"]) <= int(facts["client-width"])
    assert int(facts["scroll-height"]) > 2000
    assert seen.console == []


def test_console_check_would_see_an_error(chromium: str, page: Path, profile: Path) -> None:
    broken = without_policy(page, "broken.html", "missingFunction();")
    assert any("missingFunction" in line for line in visit(chromium, broken, profile).console)


def test_policy_blocks_a_script_that_is_not_the_report_s(
    chromium: str, page: Path, profile: Path
) -> None:
    injected = page.with_name("injected.html")
    script = "<script>document.documentElement.dataset.injected = 'yes'</script></body>"
    injected.write_text(page.read_text("utf-8").replace("</body>", script), "utf-8")
    seen = visit(chromium, injected, profile)
    assert root_data(seen.dom)["script"] == "ran"
    assert "injected" not in root_data(seen.dom)
    assert any("Content Security Policy" in line for line in seen.console)


@pytest.mark.parametrize("name", ["right", "wrong", "disagrees"])
def test_filter_button_leaves_the_solutions_that_it_names(
    chromium: str, page: Path, profile: Path, name: str
) -> None:
    data = sample_report()
    expected = {
        "right": sum(s.is_right is True for s in data.solutions),
        "wrong": sum(s.is_right is False for s in data.solutions),
        "disagrees": sum(s.disagrees(data.threshold) for s in data.solutions),
    }[name]
    assert 0 < expected < NUM_SOLUTIONS
    click = f"document.querySelector('[data-filter={name}]').click();"
    more = "document.getElementById('show-more').click();"
    seen = visit(chromium, without_policy(page, f"{name}.html", click + more), profile)
    articles = re.findall(r'<article class="solution[^>]*>', seen.dom)
    assert len(articles) == NUM_SOLUTIONS
    assert sum("hidden" not in article for article in articles) == expected
    assert root_data(seen.dom)["shown"] == str(expected)
    assert (
        'aria-pressed="true"' in re.findall(f'<button[^>]*data-filter="{name}"[^>]*>', seen.dom)[0]
    )


def framed(page: Path, name: str, attributes: str, script: str) -> Path:
    """A page that holds the report in a frame and runs ``script`` on its document, ``inner``."""
    outer = page.with_name(name)
    outer.write_text(
        f'<!doctype html><iframe src="{page.name}" style="border:0" {attributes}></iframe>'
        '<script>addEventListener("load", function () {'
        'var inner = document.querySelector("iframe").contentDocument;'
        f"var facts = document.documentElement.dataset; {script} }});</script>",
        "utf-8",
    )
    return outer


def test_page_reads_without_its_script(chromium: str, page: Path, profile: Path) -> None:
    # A sandboxed frame runs no script; the page around it may still look in.
    outer = framed(
        page,
        "no-script.html",
        'width="1000" height="800" sandbox="allow-same-origin"',
        "facts.ran = String(inner.documentElement.dataset.script);"
        "function seen(selector) { return String(Array.from(inner.querySelectorAll(selector))"
        ".filter(function (e) { return e.offsetHeight > 0; }).length); }"
        'facts.solutions = seen(".solution"); facts.buttons = seen("button");',
    )
    facts = root_data(visit(chromium, outer, profile, "--allow-file-access-from-files").dom)
    assert facts == {"ran": "undefined", "solutions": str(NUM_SOLUTIONS), "buttons": "0"}


def test_page_fits_400_pixels(chromium: str, page: Path, profile: Path) -> None:
    # A headless window is 500 pixels wide or more; a frame may be as narrow as a phone.
    copied = "Object.assign(facts, inner.documentElement.dataset);"
    outer = framed(page, "phone.html", 'width="400" height="800"', copied)
    flags = "--allow-file-access-from-files", "--window-size=800,900"
    facts = root_data(visit(chromium, outer, profile, *flags).dom)
    assert facts["script"] == "ran"
    # A scroll bar may take some of the 400 pixels, and only the scroll bar.
    assert 380 <= int(facts["client-width"]) <= 400
    assert int(facts["scroll-width"]) <= int(facts["client-width"])


def test_screenshots_show_a_page_in_light_and_in_dark(
    chromium: str, page: Path, tmp_path: Path
) -> None:
    rows_by_scheme = []
    for scheme in ("1", "0"):  # blink's numbers: 0 = dark, 1 = light
        target = tmp_path / f"{scheme}.png"
        flags = (
            "--window-size=1000,1200",
            "--hide-scrollbars",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={target}",
        )
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / scheme}", *flags, page.as_uri()]
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        width, height, rows = read_png(target)
        assert (width, height) == (1000, 1200)
        # A blank page has one or two distinct rows; text and charts make hundreds.
        assert len(rows) > 200
        rows_by_scheme.append(rows)
    light, dark = rows_by_scheme
    assert len(light & dark) < len(light) / 2


def test_blank_page_would_fail_the_screenshot_check(
    chromium: str, page: Path, tmp_path: Path
) -> None:
    blank, target = page.with_name("blank.html"), tmp_path / "blank.png"
    blank.write_text("<!doctype html>", "utf-8")
    flags = f"--user-data-dir={tmp_path / 'p'}", "--window-size=1000,1200", f"--screenshot={target}"
    command = [chromium, *FLAGS, *flags, blank.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    width, height, rows = read_png(target)
    assert (width, height) == (1000, 1200)
    assert len(rows) <= 2


def test_sample_report_is_realistic() -> None:
    data = sample_report()
    kinds = [curve.kind for curve in data.methods]
    assert list(dict.fromkeys(kinds)) == ["bound", "baseline", "rival", "ours", "critic"]
    assert len(data.solutions) == NUM_SOLUTIONS
    assert all(len(a.points) == len(b.points) for a, b in itertools.pairwise(data.methods))
