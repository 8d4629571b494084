"""A program in steps: joined they are the text, and what is kept of one can be continued."""

import ast
import random
import textwrap
import time
from pathlib import Path

import pytest

from data_gen.code_problems import own_problems
from data_gen.drafts import Draft
from data_gen.prompting import load_strategy
from data_gen.solutions import Reader
from prm.generation.requests import Reply
from prm.protocols import Generation
from prm.steps import join_steps
from prm.traces import join_trace, split_trace
from prm.traces.programs import program_begins, split_program
from prm.verifiers.code import extract_program
from tests.tiny import tiny_problem

SPECIMENS = ("bisect", "colorsys", "fnmatch", "heapq", "keyword", "quopri", "shlex", "textwrap")
SPECIMENS += ("contextlib", "copy", "csv", "graphlib", "linecache", "queue", "reprlib", "sched")
OWN = [text for one in own_problems() for text in (one.right, one.other_right)]
PIECES = (
    *("\n", "\n\n", "    ", "  ", "\t", "```", "```python\n", "\n```\n", "~~~\n", "```text\n"),
    *("# Step 1: a", "# 2. b", "# note", "#", "def f(x):\n", "for i in y:\n", "if a:\n"),
    *("else:\n", "try:\n", "except E:\n", "return x", "x = 1\n", "(", ")", "[", "]", "{", "}"),
    *("'", '"', '"""', "'''", "\\\n", "\\", "\r\n", "import os\n", "@d\n", "Plan:\n", "é", "\f"),
)


def library():
    """Programs of the standard library, none of them written for this."""
    folder = Path(ast.__file__).parent
    return [(folder / f"{name}.py").read_text(encoding="utf-8") for name in SPECIMENS]


def random_texts(count=3000):
    rng = random.Random(7)
    for _ in range(count):
        yield "".join(rng.choices(PIECES, k=rng.randint(1, 30)))


def can_be_continued(kept):
    """Some statement may follow, at one of the indents of the text or one level deeper."""
    indents = {len(line) - len(line.lstrip()) for line in kept.split("\n")}
    for indent in sorted(indents | {one + 4 for one in indents}):
        try:
            ast.parse(f"{kept}\n{' ' * indent}pass\n")
        except SyntaxError:
            continue
        return True
    return False


def steps_of(text):
    return split_program(textwrap.dedent(text).strip("\n"))


@pytest.mark.parametrize("texts", [random_texts, library, lambda: OWN])
def test_the_joined_steps_are_the_text_byte_for_byte(texts):
    for text in texts():
        steps = split_program(text)
        assert bool(steps) == bool(text.strip())
        assert not steps or join_steps(steps) == text
        assert all(step.strip() for step in steps)
        part, trace = split_trace(text, "program")
        assert join_trace(part, trace) == text


def test_every_beginning_of_a_program_is_one_that_can_be_continued():
    seen = 0
    for text in [*library(), *OWN]:
        begins = program_begins(text)[1:]
        for begin in random.Random(3).sample(begins, min(30, len(begins))):
            assert can_be_continued(text[: begin - 1]), text[begin - 300 : begin]
            seen += 1
    assert seen > 400


def test_no_step_of_a_program_begins_inside_a_statement_that_is_not_cut():
    for text in [*library(), *OWN]:
        inner = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.stmt) and not hasattr(node, "body"):
                inner |= set(range(node.lineno + 1, (node.end_lineno or 0) + 1))
        lines = {text.count("\n", 0, begin) + 1 for begin in program_begins(text)}
        assert not lines & inner


def test_a_whole_program_is_cut_into_several_steps_and_a_function_is_opened():
    counts = [len(split_program(one.right)) for one in own_problems()]
    assert min(counts) >= 2
    assert sum(counts) / len(counts) > 3


def test_plan_lines_lead_and_each_line_of_a_run_of_them_is_a_step():
    assert steps_of(
        """
        # Step 1: read.
        # Step 2: add,
        #   all of them.
        # Step 3: print.
        import sys
        total = sum(map(int, sys.stdin))
        print(total)
        """
    ) == [
        "# Step 1: read.",
        "# Step 2: add,\n#   all of them.",
        "# Step 3: print.",
        "import sys\ntotal = sum(map(int, sys.stdin))\nprint(total)",
    ]


def test_a_plan_line_cuts_a_loop_but_never_behind_a_header_nor_in_a_try():
    assert steps_of(
        """
        for x in xs:
            # Step 1: double.
            y = 2 * x
            # not a plan
            z = y
            # Step 2: keep.
            kept.append(y)
        try:
            f()
            # Step 3: g.
            g()
        except E:
            pass
        """
    ) == [
        "for x in xs:\n    # Step 1: double.\n    y = 2 * x\n    # not a plan\n    z = y",
        "    # Step 2: keep.\n    kept.append(y)",
        "try:\n    f()\n    # Step 3: g.\n    g()\nexcept E:\n    pass",
    ]


def test_headers_imports_and_docstrings_belong_to_what_follows():
    assert steps_of(
        '''
        """About."""
        import sys
        from os import path

        # helper
        @cached
        class A:
            """Doc."""

            def f(self):
                """Doc.

                # Step 1: no plan, but text.
                """
                x = 1
                if x:
                    return 1
                else:
                    return 2

            async def g(self):
                return [
                    1,

                    2,
                ]


        if __name__ == "__main__":
            a = A()

            print(a)
        '''
    ) == [
        '"""About."""\nimport sys\nfrom os import path\n\n# helper\n@cached\nclass A:\n'
        '    """Doc."""\n\n    def f(self):\n        """Doc.\n\n        # Step 1: no plan, but '
        'text.\n        """\n        x = 1',
        "        if x:\n            return 1\n        else:\n            return 2\n",
        "    async def g(self):\n        return [\n            1,\n\n            2,\n        ]\n\n",
        'if __name__ == "__main__":\n    a = A()\n',
        "    print(a)",
    ]


CHAT = """I sort first.
The code:

```python
# Step 1: sort.
xs.sort()
# Step 2: print.
print(xs)
```

It prints (the list.
Done."""


def test_fences_belong_to_the_code_and_what_follows_the_last_block_to_the_last_step():
    assert split_program(CHAT) == [
        "I sort first.",
        "The code:\n\n```python\n# Step 1: sort.\nxs.sort()",
        "# Step 2: print.\nprint(xs)\n```\n\nIt prints (the list.\nDone.",
    ]


def test_another_block_of_code_begins_anew_and_one_of_another_language_is_not_cut():
    text = "Say:\n```text\n1\n\n2\n```\nNow\n```\nx = (1\n```\nor\n~~~py\ny = 2\n~~~\nend"
    assert split_program(text) == [
        "Say:\n```text\n1\n\n2\n```",
        "Now",
        "```\nx = (1\n```",
        "or",
        "~~~py\ny = 2\n~~~\nend",
    ]


def test_a_program_that_is_cut_off_keeps_what_it_has():
    assert split_program("```python\nx = 1\n\ny = [\n  1,\n\n  2") == [
        "```python\nx = 1\n",
        "y = [\n  1,\n\n  2",
    ]


def test_prose_without_any_code_is_cut_at_its_lines():
    assert split_program("I do not (know.\nSorry!") == ["I do not (know.", "Sorry!"]


def test_the_steps_so_far_are_the_prefix_and_a_continuation_makes_the_whole_program():
    steps = split_program(CHAT)
    for kept in range(len(steps)):
        prefix = load_strategy("program_with_plan").render("Sort.", steps=steps[:kept]).prefix
        rest = CHAT[len(prefix) :]
        assert prefix + rest == CHAT
        joined = join_steps([*steps[:kept], *split_program(rest)])
        assert extract_program(joined) == extract_program(CHAT)


def test_a_continuation_that_opens_its_fence_again_is_no_right_program():
    kept = "```python\n# Step 1: sort.\nxs.sort()"
    program = extract_program(f"{kept}\n```python\nxs.sort()\nprint(xs)\n```")
    with pytest.raises(SyntaxError):
        ast.parse(program)


def test_a_thought_before_the_program_is_no_part_of_steps_or_answer():
    text = f"<think>\nHm, `sort`?\n\nx = 1\n</think>\n\n{CHAT}\n"
    reader = Reader("model", {}, "program", opens_thinking=False, answer_pattern="whole")
    draft = Draft(tiny_problem(), 0, "program_with_plan/1", "prompt", 0, 0)
    one = reader.solution(draft, Reply(Generation(text, "stop", 1, 1)), None)
    assert list(one.steps) == split_program(CHAT)
    assert one.final_answer == CHAT
    assert join_trace(one.steps, one.trace) == text


def test_the_time_grows_with_the_length_only():
    text = "\n".join(library())
    begin = time.perf_counter()
    split_program(text)
    one = time.perf_counter() - begin
    begin = time.perf_counter()
    split_program(text * 4)
    assert time.perf_counter() - begin < 4 * 4 * one + 0.2
    for hard in ('"' * 30_000, "(" * 30_000, "\\" * 30_000, "'''\\" * 10_000, "# 1.\n" * 10_000):
        begin = time.perf_counter()
        split_program(f"x = 1\n{hard}")
        assert time.perf_counter() - begin < 2.0


def test_quotes_inside_an_f_string_hold_nothing_open():
    # As they may be nested from Python 3.12 on.
    assert len(split_program("""a = f"{d["x"]} (")"\n\nb = 1""")) == 2
