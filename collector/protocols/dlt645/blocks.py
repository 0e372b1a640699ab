"""Blocks: the answer to an identifier with FF holds several items one after the other. Splits by a known item list."""

from collections.abc import Sequence

from metering.errors import FrameError


def split_block(sizes: Sequence[int], data: bytes, separator: bytes = b"") -> list[bytes]:
    """Return the items of a block; a meter with fewer tariffs or phases sends fewer of them.

    Raises:
        FrameError: the length does not fit a beginning of the list.

    """
    items: list[bytes] = []
    at = 0
    for size in sizes:
        if at == len(data):
            break
        item = data[at : at + size]
        if len(item) != size:
            raise FrameError(f"a block of {len(data)} bytes does not end with an item")
        at += size
        if separator and at < len(data):
            if not data.startswith(separator, at):
                raise FrameError("the items of a block are not parted where they should be")
            at += len(separator)
        items.append(item)
    if at != len(data):
        raise FrameError(f"a block of {len(data)} bytes is longer than its {sum(sizes)} bytes of items")
    return items


def join_block(items: Sequence[bytes], separator: bytes = b"") -> bytes:
    """Return the block of these items."""
    return separator.join(items)
