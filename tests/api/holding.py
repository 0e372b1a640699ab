"""How a golden payload is held against an answer: it only ever grows."""

from collections.abc import Mapping


def holds(golden: object, answer: object, path: str = "") -> None:
    """Check that an answer has all that the golden one has; it may have more fields."""
    if isinstance(golden, Mapping):
        assert isinstance(answer, Mapping), path
        for key, value in golden.items():
            assert key in answer, f"{path}/{key}"
            holds(value, answer[key], f"{path}/{key}")
    elif isinstance(golden, list):
        assert isinstance(answer, list), path
        assert len(golden) == len(answer), path
        for index, value in enumerate(golden):
            holds(value, answer[index], f"{path}/{index}")
    else:
        assert golden == answer, path
