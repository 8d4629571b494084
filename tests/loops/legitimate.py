"""Long texts full of repetition that are no loops: a model counting, searching, restarting.

Each function writes one text in the voice of a thinking trace; `TEXTS` names them.
"""

import itertools
import random

OPENING = (
    "Okay, so I need to find all the positive integers n for which n^2 + 1 has a prime factor of "
    "the form 4k + 1 larger than n. Let me think about this step by step.\n\nFirst, small values. "
    "Hmm, since -1 is a quadratic residue modulo p exactly when p = 2 or p ≡ 1 (mod 4), every odd "
    "prime factor is of that form already. So the question is only about the size.\n\nWait, that "
    "is not quite right: the factor has to be larger than n, not larger than the square root. Let "
    "me rewrite this. Suppose p divides n^2 + 1 and p <= n for every p. Then n^2 + 1 is n-smooth, "
    "and Størmer's theorem says something about that. Alternatively, I could look for the first "
    "few n by hand and see a pattern.\n\n"
)


def squares() -> str:
    return OPENING + "".join(
        f"n = {n}: {n}^2 + 1 = {n * n + 1}, which is {'odd' if n % 2 == 0 else 'even'}.\n"
        for n in range(1, 401)
    )


def truth_table() -> str:
    names = "ABCDEF"
    rows = ["| " + " | ".join(names) + " | result |", "|---" * 7 + "|"]
    for values in itertools.product([True, False], repeat=6):
        cells = ["T" if value else "F" for value in values]
        rows.append(
            "| " + " | ".join(cells) + f" | {'T' if sum(values) % 2 == 0 or values[3] else 'F'} |"
        )
    return OPENING + "Let me write the whole truth table.\n\n" + "\n".join(rows) + "\n"


def pairs() -> str:
    return OPENING + "".join(
        f"({a}, {b}): the sum is {a + b}, the product is {a * b}. No.\n"
        for a in range(1, 26)
        for b in range(a, 26)
    )


def primes() -> str:
    found = [n for n in range(2, 9000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    return "The primes are " + ", ".join(map(str, found)) + ". That was a long list."


def seventh() -> str:
    return OPENING + "So 1/7 = 0." + "142857" * 10 + "... and the period is 6.\n\n" + squares()


def long_division() -> str:
    lines, rest = [], 1
    for k in range(96):
        lines.append(f"Digit {k + 1}: bring down 0, {rest}0 / 97 = {rest * 10 // 97}")
        rest = rest * 10 % 97
        lines.append(f", remainder {rest}.\n")
    return "Let me find the decimals of 1/97 by long division.\n" + "".join(lines)


def matrices() -> str:
    rows = [[int(i == j) * (i + 2) for j in range(8)] for i in range(8)]
    text = ["Let me reduce the matrix row by row.\n\n"]
    for step in range(8):
        rows[step] = [int(j == step) + int(j == 7) * (step + 1) for j in range(8)]
        body = "\n".join(" & ".join(map(str, row)) + r" \\" for row in rows)
        text.append(
            f"Divide row {step + 1}:\n\\[\\begin{{pmatrix}}\n{body}\n\\end{{pmatrix}}\\]\n\n"
        )
    zero = "\n".join([r"0 & 0 & 0 & 0 & 0 & 0 & 0 & 0 & 0 & 0 \\"] * 10)
    return OPENING + "".join(text) + f"And the zero matrix is\n{zero}\nas it should be.\n"


def code() -> str:
    function = (
        "def check_{0}(n):\n    if n % {0} == 0:\n        return True\n    i = {0}\n"
        "    while i * i <= n:\n        if n % i == 0:\n            return False\n"
        "        i += 1\n    return True\n\n\n"
    )
    return OPENING + "```python\n" + "".join(function.format(k) for k in range(2, 60)) + "```\n"


def separators() -> str:
    part = "{0}\nPart {1}. Here f({1}) = {2}, so the claim holds for {1} colours.\n{0}\n"
    return "".join(part.format("-" * 120, k, k**3 - k) for k in range(1, 60))


def second_thoughts() -> str:
    names = ["the base", "the step", "the bound", "the parity", "the last digit", "the sign"]
    doubts = ["Wait, let me check again.", "Hmm.", "Hold on.", "Let me double-check that."]
    return OPENING + "".join(
        f"{doubts[k % 4]} For {names[k % 6]} I used {k * 7 + 3} = {k} * 7 + 3, and "
        f"{names[(k + 1) % 6]} gives {k * k - k}, an even number.\n\n{doubts[0]}\n\n"
        for k in range(80)
    )


def restarts() -> str:
    endings = [
        "But then c = 0, a contradiction to what?",
        "This bound is too weak by a factor 2.",
        "Now the two cases a < b and a > b are the same by symmetry, and we are done.",
    ]
    return "".join(f"Let me start over.\n\n{OPENING}{end}\n\n" for end in endings)


def twenty_four() -> str:
    numbers, lines = [3, 5, 7, 8], []
    for (i, a), (j, b) in itertools.permutations(enumerate(numbers), 2):
        rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
        for sign, c in (("+", a + b), ("-", a - b), ("*", a * b)):
            lines.append(f"{a} {sign} {b} = {c} (left: {c} {rest[0]} {rest[1]})")
            for sign2, d in (("+", c + rest[0]), ("-", c - rest[0]), ("*", c * rest[0])):
                lines.append(f"  {c} {sign2} {rest[0]} = {d} (left: {d} {rest[1]})")
                lines.append(f"  {d} and {rest[1]}: {d + rest[1]}, {d - rest[1]}. No.")
    return "I need 24 from 3, 5, 7, 8.\n" + "\n".join(lines) + "\n"


def times_tables() -> str:
    return "".join(f"{a} \\times {b} = {a * b}\n" for a in range(1, 26) for b in range(1, 26))


def trial_division() -> str:
    return (
        OPENING
        + "Is 10007 a prime?\n"
        + "".join(f"{n} does not divide 10007. " for n in range(2, 300))
    )


def short_cases() -> str:
    return OPENING + "".join(f"Case {n}: no solution.\n" for n in range(1, 401))


def prose_cases() -> str:
    return OPENING + "".join(
        f"When n is {n} we get a remainder of {n * n % 11} and so it "
        f"{'works' if n * n % 11 in (1, 4) else 'does not work'} for this modulus.\n"
        for n in range(1, 201)
    )


def coins() -> str:
    return "".join(
        f"{''.join(toss)}: {toss.count('H')} heads\n" for toss in itertools.product("HT", repeat=9)
    )


def permutations() -> str:
    return "".join("".join(p) + "\n" for p in itertools.permutations("ABCDEF"))


def sudoku() -> str:
    dice, grid, text = random.Random(0), [["."] * 9 for _ in range(9)], []
    for row, column in dice.sample(list(itertools.product(range(9), repeat=2)), 81):
        grid[row][column] = str(dice.randint(1, 9))
        text.append(f"Place {grid[row][column]} at row {row + 1}, column {column + 1}.\n")
        text += [" ".join(line) + "\n" for line in grid]
    return "".join(text)


def twice() -> str:
    """A whole solution in the thoughts, once more as the answer, and as a summary."""
    return f"<think>\n{squares()}</think>\n\n{squares()}\n\n## Summary\n\n{squares()}"


def collatz() -> str:
    text, n = [], 27
    while n != 1:
        after = n // 2 if n % 2 == 0 else 3 * n + 1
        text.append(f"{n} is {'odd' if n % 2 else 'even'}, so the next number is {after}.\n")
        n = after
    return OPENING + "".join(text)


def counting() -> str:
    return "Let me count them one by one: " + ", ".join(map(str, range(1, 2001))) + "."


def pascal() -> str:
    rows = [[1]]
    for _ in range(40):
        rows.append([1, *(a + b for a, b in itertools.pairwise(rows[-1])), 1])
    return "\n".join(" ".join(map(str, row)) for row in rows)


def options() -> str:
    dice = random.Random(1)
    return "".join(
        f"Let me check option {letter} again. With x = {dice.randint(2, 999)} the left side is "
        f"{dice.randint(2, 999)}. That is not equal to the right side.\n"
        for _ in range(40)
        for letter in "ABCDE"
    )


def brackets() -> str:
    dice, stack, text = random.Random(2), [], []
    for _ in range(200):
        symbol = dice.choice("([{<") if len(stack) < 3 or dice.random() < 0.5 else stack.pop()
        if symbol in "([{<":
            stack.append({"(": ")", "[": "]", "{": "}", "<": ">"}[symbol])
        text.append(f"{symbol} ; stack: {' '.join(stack) or 'empty'}\n")
    return "".join(text)


def induction() -> str:
    return OPENING + "".join(
        f"**Step {k}.** We have a_{k} = 2a_{{{k - 1}}} + 1 = {2**k - 1}. By the induction "
        f"hypothesis this is one less than a power of two, so the claim holds.\n\n"
        for k in range(1, 90)
    )


TEXTS = {
    function.__name__: function
    for function in (
        squares, truth_table, pairs, primes, seventh, long_division, matrices, code, separators,
        second_thoughts, restarts, twenty_four, times_tables, trial_division, short_cases,
        prose_cases, coins, permutations, sudoku, twice, collatz, counting, pascal, options,
        brackets, induction,
    )
}  # fmt: skip
