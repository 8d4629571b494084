r"""PRM800K (Lightman et al. 2023, arXiv:2305.20050; github.com/openai/prm800k), both phases.

    {"labeler": "e90a...", "timestamp": "2022-07-30T23:23:32.118856", "generation": null,
     "is_quality_control_question": false, "is_initial_screening_question": false,
     "question": {"problem": "...", "ground_truth_answer": "29"},
     "label": {"finish_reason": "solution", "steps": [
        {"completions": [{"text": "...", "rating": 1, "flagged": false}, ...],
         "human_completion": null, "chosen_completion": 0}, ...]}}

- The trace goes through the chosen completions. Where all were wrong, the labeler could write the
  step (phase 1): it is a right one, note "written".
- The odd last step: nothing chosen, nothing written. There the labeler stopped, in phase 2 at the
  first error: the trace ends with the step of the pre-generated solution, which is the first.
- The other rated completions are what the solution might have been: each ends one of its own.
- 0 is neutral, a flag: reasonable, but without progress. ``flagged``: the labeler cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_gen.importing.fields import Row, flag, mapping, mappings, refuse, text, text_or
from data_gen.importing.imported import SILENT, Imported, Options, Said

NAME = "prm800k"
_DROPPED = ("bad_problem", "give_up")
_MARKS = ("is_quality_control_question", "is_initial_screening_question")
_ANSWER = "# Answer"
_GENERATOR = "gpt-4 (prm800k)"

Path = list[tuple[str, Said]]


def read_row(row: Row, options: Options, where: str) -> Iterator[Imported | str]:
    """The trace of the row and its alternatives, or why the row is dropped."""
    label = mapping(row, "label", where)
    if reason := _reason_to_drop(row, label, where):
        yield reason
        return
    path: Path = []
    steps = mappings(label, "steps", where)
    for index, step in enumerate(steps):
        is_empty = "completions" in step and step["completions"] is None
        completions = [] if is_empty else mappings(step, "completions", where)
        main = _main(row, step, index, completions, where)
        others = [one for j, one in enumerate(completions) if j != main]
        yield from _alternatives(row, path, others, options, where)
        written = step.get("human_completion")
        if main is not None:
            path.append(_rated(completions[main], options, where))
        elif written is not None:
            text_of_it = text(mapping(step, "human_completion", where), "text", where)
            path.append((text_of_it, Said(True, 1, 1, note="written")))
        if step.get("chosen_completion") is None and written is None:
            if index < len(steps) - 1:
                yield "behind_the_end"
            break
    yield _solution(row, path, where, is_trace=True)


def _reason_to_drop(row: Row, label: Row, where: str) -> str | None:
    """A row that was made to test people, or whose labeler gave up, is none to learn from."""
    for mark in _MARKS:
        if flag(row, mark, where):
            return mark.removeprefix("is_").removesuffix("_question")
    reason = text(label, "finish_reason", where)
    return reason if reason in _DROPPED else None


def _main(row: Row, step: Row, index: int, completions: Sequence[Row], where: str) -> int | None:
    """Which of the completions the trace goes through; None = none of them."""
    chosen = step.get("chosen_completion")
    if chosen is not None:
        if not isinstance(chosen, int) or not 0 <= chosen < len(completions):
            raise refuse(where, f"step {index}: {chosen!r} of {len(completions)} is chosen")
        return chosen
    if step.get("human_completion") is not None or not completions:
        return None
    made = mapping(row, "question", where).get("pre_generated_steps") or []
    wanted = made[index] if index < len(made) else None
    return next((j for j, one in enumerate(completions) if one.get("text") == wanted), 0)


def _alternatives(
    row: Row, path: Path, others: Sequence[Row], options: Options, where: str
) -> Iterator[Imported | str]:
    """Each other completion at the end of the path so far, or why it is left out."""
    is_behind = any(said.is_right is False for _, said in path)
    for one in others:
        rated = _rated(one, options, where)
        if not options.alternatives:
            yield "alternative"
        elif one.get("rating") is None or one.get("flagged"):
            yield "unrated_alternative"
        elif is_behind:
            yield "alternative_behind_first_error"
        else:
            yield _solution(row, [*path, rated], where, is_trace=False)


def _rated(completion: Row, options: Options, where: str) -> tuple[str, Said]:
    """A step and its rating."""
    rating, step = completion.get("rating"), text(completion, "text", where)
    if rating not in (-1, 0, 1, None):
        raise refuse(where, f"rating should be -1, 0, 1 or null, found {rating!r:.60}")
    value = None if rating is None else float(rating)
    if flag(completion, "flagged", where):
        return step, Said(value=value, note="flagged")
    if value is None:
        return step, SILENT
    if value == 0:
        return step, options.neutral_said()
    return step, Said(value > 0, int(value > 0), 1, value)


def _solution(row: Row, path: Path, where: str, *, is_trace: bool) -> Imported:
    question = mapping(row, "question", where)
    reference = text_or(question, "ground_truth_answer", where)
    answer = _answer(path[-1][0]) if path else None
    # "solution": the labeler reached a step that concludes in the right answer.
    is_solved = is_trace and mapping(row, "label", where)["finish_reason"] == "solution"
    is_right = is_solved or (answer is not None and answer == reference.strip())
    phase = 1 if row.get("generation") is None else 2
    return Imported(
        statement=text(question, "problem", where),
        steps=tuple(step for step, _ in path),
        said=tuple(said for _, said in path),
        source=NAME,
        kind="human",
        author=NAME,
        reference_answer=reference,
        final_answer=answer,
        final_is_right=is_right or None,
        finish_reason="stop" if answer is not None or is_solved else "cut",
        generator=_GENERATOR,
        annotator=text(row, "labeler", where),
        time=text(row, "timestamp", where),
        meta={"phase": phase},
        where=where,
    )


def _answer(step: str) -> str | None:
    """What stands under the heading ``# Answer``."""
    _, heading, answer = step.partition(_ANSWER)
    return answer.strip() if heading else None
