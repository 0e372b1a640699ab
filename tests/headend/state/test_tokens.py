from headend.state.store import State
from headend.tokens import TokenBook


def test_tokens_in_the_state_are_made_listed_and_revoked_for_all_head_ends(url: str, state: State) -> None:
    other = State.open(url)
    mine, theirs = TokenBook(state), TokenBook(other)
    token = mine.create("office", ["readings:read"], ["js/nj"], expires_at=None, person="anna")
    grant = theirs.verify(token)
    assert grant is not None
    assert (grant.name, grant.who, grant.regions) == ("office", "anna", ("js/nj",))
    assert theirs.verify(token[:-1] + ("A" if token[-1] != "A" else "B")) is None
    assert [(each.name, each.person) for each in theirs.list()] == [("office", "anna")]
    assert theirs.revoke(grant.token)
    assert not theirs.revoke("00000000")
    assert mine.verify(token) is None
    mine.close()
    assert len(mine.list()) == 1
    other.close()
