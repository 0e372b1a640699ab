"""The plan: no plan with fewer requests exists, nothing is split, nothing is asked for that was refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.plan import Holes, Request, Span, plan, rtu_max_gap, split

spans_in = st.lists(st.tuples(st.sampled_from([3, 4]), st.integers(0, 30), st.sampled_from([1, 2, 4])), max_size=7).map(
    lambda found: [Span(*fields, value) for value, fields in enumerate(found)]
)


def _partitions(spans: list[Span]) -> list[list[list[Span]]]:
    if not spans:
        return [[]]
    out = []
    for rest in _partitions(spans[1:]):
        out.append([[spans[0]], *rest])
        out.extend([*rest[:i], [spans[0], *rest[i]], *rest[i + 1 :]] for i in range(len(rest)))
    return out


def _allowed(group: list[Span], limit: int, gap: int, cuts: set[int]) -> bool:
    group = sorted(group)
    end = group[0].end
    for span in group[1:]:
        if span.address - end > gap:
            return False
        end = max(end, span.end)
    across = any(group[0].address < c < end and not any(s.address < c < s.end for s in group) for c in cuts)
    return len({span.function for span in group}) == 1 and end - group[0].address <= limit and not across


@settings(max_examples=150, deadline=None)
@given(spans_in, st.integers(4, 20), st.integers(0, 8), st.sets(st.integers(1, 30), max_size=2))
def test_no_plan_with_fewer_requests_exists(spans: list[Span], limit: int, gap: int, cuts: set[int]):
    holes = Holes(frozenset((function, cut) for cut in cuts for function in (3, 4)))
    requests = plan(spans, limit, gap, holes)
    fewest = min(len(p) for p in _partitions(spans) if all(_allowed(group, limit, gap, cuts) for group in p))
    assert len(requests) == fewest
    assert sorted(span for request in requests for span in request.spans) == sorted(spans)
    for request in requests:
        assert _allowed(list(request.spans), limit, gap, cuts)
        assert all(request.address <= s.address and s.end <= request.address + request.registers for s in request.spans)
    assert plan(spans[::-1], limit, gap, holes) == requests


def test_a_value_longer_than_a_request_is_told():
    with pytest.raises(ValueError, match="4 registers"):
        plan([Span(3, 0, 4, 0)], max_registers=2)


def test_a_gap_is_read_over_only_while_that_is_quicker_than_one_more_request():
    gap = rtu_max_gap(9600, 11, 0.0)
    spans = [Span(3, 0, 2, 0), Span(3, 2 + gap, 2, 1)]
    assert len(plan(spans, 125, gap)) == 1
    assert len(plan([spans[0], Span(3, 3 + gap, 2, 1)], 125, gap)) == 2
    assert rtu_max_gap(9600, 11, 0.1) > gap


def test_a_refused_request_parts_at_its_widest_gap_and_otherwise_in_the_middle():
    spans = (Span(3, 0, 2, 0), Span(3, 2, 2, 1), Span(3, 10, 2, 2), Span(3, 12, 2, 3))
    assert split(Request(3, 0, 14, spans)) == (Request(3, 0, 4, spans[:2]), Request(3, 10, 4, spans[2:]))
    assert split(Request(3, 0, 4, spans[:2])) == (Request(3, 0, 2, spans[:1]), Request(3, 2, 2, spans[1:2]))
    assert split(Request(3, 0, 2, spans[:1])) is None


def test_unreadable_values_are_not_asked_for():
    holes = Holes(unreadable=frozenset([(3, 0, 2)]))
    assert plan([Span(3, 0, 2, 0), Span(3, 2, 2, 1)], holes=holes) == (Request(3, 2, 2, (Span(3, 2, 2, 1),)),)
