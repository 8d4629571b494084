import math
import random
import time

import pytest

from prm.verifiers.code import Compare, compare
from prm.verifiers.code.compare import compare_encoded, compare_text

NAN, INF = math.nan, math.inf
CLOSE = Compare(rel_tol=1e-6)
ANY_ORDER = Compare(unordered=True)
ALIKE = Compare(tuple_is_list=True)


@pytest.mark.parametrize(
    ("value", "expected", "rule", "same"),
    [
        (1, 1, Compare(), True),
        (1, 2, Compare(), False),
        (1, 1.0, Compare(), True),
        (2**60 + 1, float(2**60), Compare(), False),
        (True, 1, Compare(), False),
        (False, 0, Compare(), False),
        (True, True, Compare(), True),
        (None, None, Compare(), True),
        (None, 0, Compare(), False),
        (None, "", Compare(), False),
        ("1", 1, Compare(), False),
        ("a", "A", Compare(), False),
        (b"a", "a", Compare(), False),
        (b"a", b"a", Compare(), True),
        ([1, 2], [1, 2], Compare(), True),
        ([1, 2], [2, 1], Compare(), False),
        ([1], [1, 2], Compare(), False),
        ([1, 2], [1], Compare(), False),
        ([1], [True], Compare(), False),
        ((1, 2), [1, 2], Compare(), False),
        ((1, 2), [1, 2], ALIKE, True),
        ([(1, 2)], [[1, 2]], ALIKE, True),
        ({1, 2}, {2, 1}, Compare(), True),
        ({1, 2}, frozenset({1, 2}), Compare(), True),
        ({1, 2}, [1, 2], Compare(), False),
        ({1}, {True}, Compare(), False),
        ({1.0}, {1}, Compare(), True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, Compare(), True),
        ({"a": 1}, {"a": 2}, Compare(), False),
        ({"a": 1}, {"b": 1}, Compare(), False),
        ({"a": 1}, {"a": 1, "b": 1}, Compare(), False),
        ({1: 2}, {1: 2}, Compare(), True),
        ({1: 2}, {"1": 2}, Compare(), False),
        ({(1, 2): [3]}, {(1, 2): [3]}, Compare(), True),
        ({"$type": "int", "value": "0x2"}, 2, Compare(), False),
        (2**300, 2**300, Compare(), True),
        (2**300, 2**300 + 1, Compare(), False),
        (2**2000, 1.5, CLOSE, False),
        (1j, 1j, Compare(), True),
        (1j, 2j, Compare(), False),
        (NAN, NAN, Compare(), False),
        (NAN, NAN, Compare(nan_equal=True), True),
        (NAN, 1.0, Compare(nan_equal=True), False),
        (INF, INF, Compare(), True),
        (INF, -INF, CLOSE, False),
        (0.0, -0.0, Compare(), True),
        (0.1 + 0.2, 0.3, Compare(), False),
        (0.1 + 0.2, 0.3, CLOSE, True),
        ([0.1 + 0.2], [0.3], CLOSE, True),
        (0.31, 0.3, CLOSE, False),
        (1e-9, 0.0, CLOSE, False),
        (1e-9, 0.0, Compare(abs_tol=1e-6), True),
        (1_000_000, 1_000_001, Compare(rel_tol=0.1), False),
        (1_000_000.0, 1_000_001, Compare(rel_tol=0.1), True),
        ([3, 1, 2], [1, 2, 3], ANY_ORDER, True),
        ([3, 1, 1], [1, 3, 3], ANY_ORDER, False),
        ([[2, 1], [3]], [[3], [2, 1]], ANY_ORDER, True),
        ([[1, 2]], [[2, 1]], ANY_ORDER, False),
        ([1, "a", None, (2,)], [(2,), None, "a", 1], ANY_ORDER, True),
        ([0.1 + 0.2, 5], [5, 0.3], Compare(unordered=True, rel_tol=1e-9), True),
        ([(1, 2), [0, 5]], [[0, 5], [1, 2]], Compare(unordered=True, tuple_is_list=True), True),
        (object(), object(), Compare(), False),
        (range(3), range(3), Compare(), False),
    ],
)
def test_values_are_equal_by_the_rule(value, expected, rule, same):
    assert compare(value, expected, rule) is same


@pytest.mark.parametrize(
    ("text", "expected", "rule", "same"),
    [
        ("3\n", "3", Compare(), True),
        ("3 \r\n\n", "3\n", Compare(), True),
        ("", "\n", Compare(), True),
        (" 3", "3", Compare(), False),
        ("3\n4", "3", Compare(), False),
        ("3", "3\n4", Compare(), False),
        ("3\n\n4", "3\n4", Compare(), False),
        ("3  4", "3 4", Compare(), False),
        ("YES", "Yes", Compare(), False),
        ("YES", "Yes", Compare(ignore_case=True), True),
        ("2\n1", "1\n2", Compare(), False),
        ("2\n1", "1\n2", ANY_ORDER, True),
        ("0.3333333", "0.33333333", Compare(), False),
        ("x 0.3333333", "x 0.33333333", CLOSE, True),
        ("y 0.3333333", "x 0.33333333", CLOSE, False),
        ("3.0000000001", "3", CLOSE, True),
        ("1000001", "1000000", Compare(rel_tol=0.1), False),
        ("nan", "nan", CLOSE, True),
        ("nan", "1.0", CLOSE, False),
        ("1.0 2.0", "1.0", CLOSE, False),
    ],
)
def test_texts_are_equal_by_the_rule(text, expected, rule, same):
    assert compare_text(text, expected, rule) is same


def test_a_value_equals_itself_in_any_order_of_its_sets():
    rng = random.Random(0)
    items = [rng.choice([rng.random(), rng.randrange(9), str(rng.random())]) for _ in range(200)]
    shuffled = items.copy()
    rng.shuffle(shuffled)
    assert compare(items, shuffled, ANY_ORDER)
    assert not compare(items, [*shuffled[1:], "none"], ANY_ORDER)


def test_hostile_values_take_no_time():
    # The hashes of all of these are 0, and a set of them takes quadratic time.
    colliding = [index * (2**61 - 1) for index in range(20_000)]
    forged = {"$type": "set", "value": [{"$type": "int", "value": hex(it)} for it in colliding]}
    begin = time.monotonic()
    assert not compare_encoded(forged, [1])
    assert not compare_encoded(list(range(50_000)), list(range(50_001)), ANY_ORDER)
    assert not compare_encoded({"$type": "int", "value": "0x" + "f" * 200_000}, 1.5, CLOSE)
    assert time.monotonic() - begin < 3.0


@pytest.mark.parametrize(
    "forged",
    [
        {"$type": "tuple", "value": 1},
        {"$type": "int", "value": "x"},
        {"$type": "float", "value": "x"},
        {"$type": 1, "value": "x"},
        {"$type": "set"},
        {"$type": ["set"], "value": []},
    ],
)
def test_what_is_no_value_is_refused(forged):
    with pytest.raises(ValueError):  # noqa: PT011 (it is raised for each in other words)
        compare_encoded(forged, 1)


def test_what_is_nested_too_deep_is_refused():
    deep: list = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ValueError, match="too deep"):
        compare_encoded(deep, 1)
