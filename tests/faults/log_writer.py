"""A process that appends numbered records until it is killed, and tells each acknowledged one on its output."""

import asyncio
import sys
from pathlib import Path

from storage.log import Log, LogLimits

WRITERS = 4
LIMITS = LogLimits(max_bytes=64 * 1024 * 1024, segment_bytes=64 * 1024, min_free_bytes=0)


async def main(directory: Path, run: str) -> None:
    """Append as several tasks; a line `seq text` is written only after `append` has returned."""
    log = Log.open(directory, LIMITS)
    cursor = log.cursor("up")

    async def write(writer: int) -> None:
        number = 0
        while True:
            text = f"{run}-{writer}-{number}"
            seq = await log.append(text.encode().ljust(50 + number * 37 % 3000, b"."))
            sys.stdout.write(f"{seq} {text}\n")
            sys.stdout.flush()
            if number % 10 == 0:
                cursor.move(seq)
            number += 1

    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
