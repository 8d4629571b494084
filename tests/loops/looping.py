"""Texts that got stuck, as models write them: what is said again and again, after a good start.

`TEXTS` maps a name to such a text and the characters of it that may pass before the stop.
"""

import random

SENTENCE = "Wait, but the problem says that the two circles are tangent, so let me reconsider. "

PARAGRAPHS = (
    "Wait, maybe I misread this. The problem says that the triangle ABC has a right angle at "
    "C and that the altitude from C meets AB at D. So AD times DB equals CD squared. If AD = 4 and "
    "DB = 9, then CD = 6. That matches what I found before.\n\n",
    "Alternatively, maybe the intended reading is that D lies on the extension of AB. In that case "
    "the power of the point D would be involved, and the relation would change its sign. But then "
    "the figure would not make sense, because the altitude of a right triangle falls inside.\n\n",
    'But the problem says "the area is an integer". The area would be 39, which is an integer. '
    "Hmm, so that is no restriction at all. Perhaps there is a typo in the problem. Let me think "
    "about the original source of it. I recall a similar problem in which the answer was 78.\n\n",
    "Let me try coordinates instead. Put C at the origin, A on the x-axis and B on the y-axis. So "
    "the foot of the altitude has coordinates that are easy to compute, and I get the same lengths "
    "as above. So the answer should be 39. But that seems too easy.\n\n",
    "Hmm, let me think differently. Suppose that the angle at C is not the right one. Then none of "
    "the relations above would hold and I would need the law of cosines. There is not enough "
    "information for that, so this cannot be what is meant.\n\n",
)
CYCLE = "".join(PARAGRAPHS[:3])

ATTEMPT = "Attempt {0}: let me try again.\n"
CASE = "Let me check case {0} again. "
COUNTED = "**Attempt {0}.**\n\n" + PARAGRAPHS[0]
TWO_COUNTERS = (
    "This is now the {0}th time that I come back to the {0}th line of the proof, and the argument "
    "does not close. The lemma is fine, the bound is fine, and still something is missing here.\n\n"
)


def shuffled() -> str:
    dice = random.Random(0)
    return "".join(dice.choice(PARAGRAPHS) for _ in range(120))


def uneven_blanks() -> str:
    """The same cycle with other blanks and blank lines each time."""
    dice = random.Random(1)
    words = CYCLE.replace("\n\n", " \n ").split(" ") * 60
    return "".join(word + dice.choice([" ", "  "]) for word in words)


def one_word_changes() -> str:
    dice = random.Random(2)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ("".join(dice.choices(letters, k=8)) for _ in range(60))
    return "".join(f"What about a {word} argument? {CYCLE}" for word in words)


def long_cycle() -> str:
    """A cycle of more than 6,000 characters, beyond the longest exact period."""
    steps = [
        f"So f({k}) = {k * k * k - k} must be divisible by 6, and {k} was not excluded before. "
        for k in range(90)
    ]
    return ("".join(steps) + CYCLE) * 8


def counted(form: str) -> str:
    return "".join(form.format(k) for k in range(51, 1000))


def run_on() -> str:
    """One sentence without end, and a counter in it."""
    return "".join(f"so let me go back to the line marked {k} again, " for k in range(100, 1000))


TEXTS = {
    "token": ("the " * 5000, 1300),
    "zeros": ("0" * 9000, 1300),
    "digits": ("684210526315789473" * 400, 1300),
    "blanks": (" " * 9000, 1300),
    "newlines": ("\n" * 9000, 1300),
    "closing brackets": ("] " * 5000, 1300),
    "sum": ("1 + 1 = 2, so " * 900, 1300),
    "sentence": (SENTENCE * 200, 1300),
    "line": ("So the answer is \\boxed{39}.\n" * 400, 1300),
    "display": ("\\[\nx^2 + 2x + 1 = (x + 1)^2\n\\]\nTherefore,\n" * 200, 1300),
    "code": ("def f(n):\n    return f(n - 1) + f(n - 2)\n\nprint(f(10))\n\n" * 200, 1300),
    "paragraph": (PARAGRAPHS[0] * 40, 1400),
    "two paragraphs": ("".join(PARAGRAPHS[:2]) * 40, 2700),
    "three paragraphs": (CYCLE * 40, 4100),
    "five paragraphs": ("".join(PARAGRAPHS) * 40, 6300),
    "chinese": ("等等让我再检查一遍这个问题的条件。" * 500, 1300),
    "attempts": (counted(ATTEMPT), 4700),
    "cases": (counted(CASE), 4700),
    "counted paragraphs": (counted(COUNTED), 6300),
    "two counters": (counted(TWO_COUNTERS), 5500),
    "uneven blanks": (uneven_blanks(), 8200),
    "shuffled paragraphs": (shuffled(), 12000),
    "one word changes": (one_word_changes(), 9500),
    "long cycle": (long_cycle(), 36000),
    "run-on sentence": (run_on(), 8000),
}
