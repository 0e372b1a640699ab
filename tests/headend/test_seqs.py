"""The ledger of committed seqs beside a plain set, whatever comes in which order."""

from hypothesis import given
from hypothesis import strategies as st

from headend.seqs import MAX_EPOCHS, Ledger

SPANS = st.tuples(st.sampled_from(["g1", "g2"]), st.sampled_from(["a", "b"]), st.integers(1, 60), st.integers(0, 9))


@given(st.lists(SPANS, max_size=60))
def test_the_ledger_says_what_a_set_says(spans: list[tuple[str, str, int, int]]):
    ledger = Ledger()
    plain: dict[tuple[str, str], set[int]] = {}
    for gateway, epoch, first, more in spans:
        known = plain.setdefault((gateway, epoch), set())
        assert ledger.has(gateway, epoch, first, first + more) == known.issuperset(range(first, first + more + 1))
        ledger.add(gateway, epoch, first, first + more, crc=first)
        known.update(range(first, first + more + 1))
    again = Ledger()
    again.load(ledger.save())
    for book in (ledger, again):
        for (gateway, epoch), known in plain.items():
            seqs = book.of(gateway, epoch)
            contiguous = next(n for n in range(100) if n + 1 not in known)
            assert seqs.contiguous == contiguous
            held = {n for first, last in seqs.held() for n in range(first, last + 1)}
            assert held == {n for n in known if n > contiguous}
            missing = {n for first, last in seqs.missing() for n in range(first, last + 1)}
            assert missing == set(range(1, max(known) + 1)) - known
            assert seqs.check is not None
            assert seqs.check[0] == max(known)


def test_one_epoch_is_never_a_duplicate_of_another():
    ledger = Ledger()
    ledger.add("g1", "a", 1, 5, 0)
    assert not ledger.has("g1", "b", 1, 5)
    assert not ledger.has("g2", "a", 1, 5)
    assert ledger.of("g1", "b").contiguous == 0


def test_epochs_without_end_are_refused():
    ledger = Ledger()
    for number in range(MAX_EPOCHS):
        ledger.add("g1", f"e{number}", 1, 1, 0)
    assert not ledger.room("g1", "one-more")
    assert ledger.room("g1", "e0")
    assert ledger.room("g2", "one-more")
