r"""Long thinking traces to steps, with offsets that join back to the same text.

QwQ writes thousands of lines with "Wait", restarts and returns. `segment` finds the steps of such
a text, `split_trace` keeps what lies between them, and `join_trace` gives the text again, byte for
byte. A step in which the writer takes something back, or checks it, is marked as a correction.

>>> steps, trace = split_trace("<think>\nOkay.\n\nSo x = 5.\n</think>\nx is 5.", "thinking")
>>> steps, trace.after
(('Okay.\n\nSo x = 5.',), '\n</think>\nx is 5.')
"""

from prm.traces.pieces import StepLimits
from prm.traces.thinking import find_answer, find_thinking
from prm.traces.trace import Span, StepsFrom, join_trace, segment, split_trace

__all__ = [
    "Span",
    "StepLimits",
    "StepsFrom",
    "find_answer",
    "find_thinking",
    "join_trace",
    "segment",
    "split_trace",
]
