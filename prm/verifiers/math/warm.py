"""Imported once by the process that the workers are copies of: the parser learns its grammar."""

from prm.verifiers.math.symbolic import SympyAlgebra

_USUAL = (
    (r"\frac{3\sqrt{2}}{2}+\pi", r"\frac{x^{2}-1}{y_{1}}"),
    (r"\sin{x}+\log_{2}{y}-e^{2x}", r"2\cdot(a+b)-\sqrt[3]{c}"),
    (r"x^2+y^2=4", r"|x-1|\cos{2x}"),
)
_algebra = SympyAlgebra()
for _left, _right in _USUAL:
    _algebra(_left, _right)
