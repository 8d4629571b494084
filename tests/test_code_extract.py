import time

import pytest

from prm.verifiers.code import extract_program


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```py\nx = 1\n```\nand\n```Python3\nx = 2\n```\nbye", "x = 2\n"),
        ("```python\nx = 1\n```\nIts output:\n```text\n1\n```", "x = 1\n"),
        ("```python\nx = 1\n```\nRun it:\n```bash\npython x.py\n```", "x = 1\n"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("1. So:\n   ```python\n   if x:\n       y()\n   ```", "if x:\n    y()\n"),
        ("```python\nx = 1\n", None),
        ("```python\nx = 1\n```\n```python\nx = 2", "x = 1\n"),
        ("```python\n\n```", None),
        ("```cpp\nint x;\n```", None),
        ("The answer is 4.", None),
        ("", None),
        ("def f(x):\n    return x", "def f(x):\n    return x"),
        ("import sys\nprint(1)\n", "import sys\nprint(1)"),
        ("n = int(input())\nprint(n)", "n = int(input())\nprint(n)"),
        ("Use ```x = 1``` here.", None),
    ],
)
def test_the_program_is_the_last_closed_block_of_python(text, program):
    assert extract_program(text) == program


def test_a_block_that_defines_the_entry_comes_before_an_example_of_use():
    text = "```python\ndef f(x):\n    return x\n```\nFor example:\n```python\nprint(f(3))\n```"
    assert extract_program(text, "f") == "def f(x):\n    return x\n"
    assert extract_program(text, "Missing.f") == "print(f(3))\n"
    assert extract_program(text) == "print(f(3))\n"
    text = text.replace("def f(x):\n    return x", "class Solution:\n    pass")
    assert extract_program(text, "Solution.f") == "class Solution:\n    pass\n"


@pytest.mark.parametrize(
    "piece", ["```\n", "`", "```python\n", " " * 50 + "\n", "x, " * 9, "~~~\n", "~", "if :"]
)
def test_a_hostile_text_takes_no_time(piece):
    begin = time.monotonic()
    extract_program(piece * 20_000)
    assert time.monotonic() - begin < 1.0


@pytest.mark.parametrize("inside", ["a", " ", "\t", "~", "~ "])
@pytest.mark.parametrize("fence", ["```", "~~~"])
def test_a_line_that_is_almost_a_fence_takes_no_time(fence, inside):
    begin = time.monotonic()
    assert extract_program(fence + inside * 100_000 + "`") is None
    assert time.monotonic() - begin < 1.0
