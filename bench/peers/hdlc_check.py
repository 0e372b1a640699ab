"""Computes the frame check of one frame with dlms-cosem, and prints microseconds of CPU for a kB as JSON.

A program of its own: it runs in the environment of the peers (`make peers`). Argument: the number of bytes.
"""

import json
import sys
import time

from dlms_cosem.crc import CRCCCITT

ROUNDS = 20


def main() -> None:
    """Measure."""
    size = int(sys.argv[1])
    frame = bytes(index * 7 & 0xFF for index in range(size))
    check = CRCCCITT()
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        got = check.calculate_for(frame)
        best = min(best, time.process_time() - begun)
    print(json.dumps({"us_per_kb": best / size * 1e9, "check": got.hex()}))


if __name__ == "__main__":
    main()
