"""The connection to an InfluxDB through influxdb-client: lines in, rows out, and errors that say what to do.

Not what the lines mean. Works with 1.8, 2.x and 3.x: lines go to `/api/v2/write`, questions in InfluxQL to `/query`.
"""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgspec
import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from metering.errors import StorageError

BUSY_RETRIES = 3  # times that a 429 or 503 is waited out inside one call; after that the caller decides
BUSY_WAIT_S = 0.5  # where the server names no Retry-After
BUSY_WAIT_MAX_S = 5.0  # longer waits are the caller's
REASON_CHARS = 300  # of the server's own words, so that a message stays a message

MICROSECONDS: Any = "us"  # `WritePrecision.US`, which is a plain string and typed as something else

_BAD_REQUEST, _NOT_FOUND, _TOO_LARGE, _UNPROCESSABLE = 400, 404, 413, 422
_BUSY = (429, 503)
_DROPPED = re.compile(r"dropped=(\d+)")
_ITS_LINE = re.compile(r"(unable to parse) '.*?' ?(?=: )", re.DOTALL)  # the reason repeats the whole line; we have it
# A refusal that is about the server's own limits, not about the point: the point must wait, not be put aside.
_SERVER_LIMIT = re.compile(r"limit exceeded|max-series|max-values|cache-max-memory|timeout|hinted", re.IGNORECASE)


@dataclass(frozen=True)
class InfluxSettings:
    """Where the server is. `bucket` is `DATABASE/RETENTION-POLICY` for 1.x, otherwise the bucket's name."""

    url: str
    token: str = field(repr=False)  # `user:password` for 1.x
    bucket: str
    org: str = "-"  # 1.x has none
    connect_timeout_s: float = 5.0
    timeout_s: float = 30.0


class Refusal(NamedTuple):
    """What the server said about a body that it refused in part or whole."""

    reason: str
    dropped: int  # lines that it says it dropped; 0 where it does not say
    too_large: bool


class Row(NamedTuple):
    """One row of an answer: the tags of its GROUP BY, its time in microseconds, its cells in the order of SELECT."""

    measurement: str
    tags: dict[str, str]
    time: int
    cells: list[Any]


class _Series(msgspec.Struct):
    name: str = ""
    tags: dict[str, str] = {}
    values: list[list[int | float | str | None]] = []


class _Result(msgspec.Struct):
    series: list[_Series] = []
    error: str = ""


class _Answer(msgspec.Struct):
    results: list[_Result] = []


_answers = msgspec.json.Decoder(_Answer)


class InfluxLink:
    """One client. Every method raises `StorageError`; safe to use from several threads."""

    def __init__(self, settings: InfluxSettings) -> None:
        self.settings = settings
        self._database, _, self._policy = settings.bucket.partition("/")
        timeout = (int(settings.connect_timeout_s * 1000), int(settings.timeout_s * 1000))
        # The client has few types of its own.
        self._client: Any = InfluxDBClient(settings.url, settings.token, org=settings.org, timeout=timeout)
        self._writer = self._client.write_api(write_options=SYNCHRONOUS)
        self._closed = threading.Event()

    def write(self, lines: Sequence[str]) -> dict[int, str]:
        """Store the lines; return index -> reason of those that the server refuses for good.

        A refused body is halved until the bad lines stand alone; writing a good line twice changes nothing.
        """
        rejected: dict[int, str] = {}
        spans = [(0, len(lines))] if lines else []
        while spans:
            first, end = spans.pop()
            refusal = self._post("\n".join(lines[first:end]).encode())
            if refusal is None:
                continue
            if end - first == 1 or refusal.dropped == end - first:
                if not refusal.too_large and _SERVER_LIMIT.search(refusal.reason):
                    raise StorageError(f"InfluxDB takes no more: {refusal.reason}", retry=True)
                rejected.update(dict.fromkeys(range(first, end), refusal.reason))
            else:
                middle = (first + end) // 2
                spans += [(middle, end), (first, middle)]
        return rejected

    def _post(self, body: bytes) -> Refusal | None:
        for attempt in range(BUSY_RETRIES + 1):
            self.check_open()
            try:
                self._writer.write(self.settings.bucket, record=body, write_precision=MICROSECONDS)
            except ApiException as error:
                if error.status in {_BAD_REQUEST, _UNPROCESSABLE, _TOO_LARGE}:
                    return self._refusal(error)
                if error.status not in _BUSY or attempt == BUSY_RETRIES:
                    raise self._storage_error(error) from None
                self._closed.wait(_retry_after(error))
            except urllib3.exceptions.HTTPError as error:
                raise self._unreachable(error) from None
            else:
                return None
        raise AssertionError("the last attempt returns or raises")

    def _refusal(self, error: ApiException) -> Refusal:
        reason = self._words(error)
        too_large = error.status == _TOO_LARGE
        if not too_large and not _is_json(error.body):
            # Not InfluxDB's own answer: something between us and it; the points are not to blame.
            raise StorageError(f"InfluxDB's address answers {error.status}: {reason}", retry=True)
        dropped = _DROPPED.search(reason)
        return Refusal(reason, int(dropped[1]) if dropped else 0, too_large)

    def rows(self, statement: str) -> Iterator[Row]:
        """Yield the rows of one InfluxQL SELECT or SHOW statement as they come in."""
        self.check_open()
        # In chunks: one line of JSON each, so that a long answer never stands in memory as a whole.
        form = [("db", self._database), ("q", statement), ("epoch", "u"), ("chunked", "true")]
        if self._policy:
            form.append(("rp", self._policy))
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        try:
            response: urllib3.HTTPResponse = self._client.api_client.call_api(
                "/query",
                "POST",
                header_params=headers,
                post_params=form,
                _preload_content=False,
                _return_http_data_only=True,
            )
            try:
                for line in response:
                    yield from self._rows_of(line)
            finally:
                response.close()
        except ApiException as error:
            raise self._storage_error(error) from None
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(error) from None

    def _rows_of(self, line: bytes) -> Iterator[Row]:
        try:
            answer = _answers.decode(line)
        except msgspec.DecodeError as error:
            raise StorageError(f"InfluxDB's answer breaks off: {error}", retry=True) from None
        for result in answer.results:
            # The error of a statement comes with status 200; in CSV 1.6 leaves it out and the answer looks empty.
            if result.error:
                raise StorageError(f"InfluxDB cannot answer: {self._clean(result.error)}", retry=True)
            for series in result.series:
                for values in series.values:
                    yield Row(series.name, series.tags, cast("int", values[0]), values[1:])

    def check(self) -> None:
        """Return quietly when the bucket can be read and written."""
        for _ in self.rows('SELECT "received" FROM "readings" LIMIT 1'):
            pass
        # A comment is a write of nothing: it needs the right to write. Some versions call an empty body a bad request.
        self._post(b"# ping")

    def close(self) -> None:
        """Release the connections; later calls raise `StorageError`."""
        if not self._closed.is_set():
            self._closed.set()
            self._client.close()

    def check_open(self) -> None:
        """Raise `StorageError` after `close`."""
        if self._closed.is_set():
            raise StorageError("the InfluxDB store is closed", retry=False)

    def _storage_error(self, error: ApiException) -> StorageError:
        words = self._words(error)
        bucket = self.settings.bucket
        if error.status in {401, 403}:
            text = (
                f"InfluxDB refuses the token ({error.status}: {words}): check it, and its rights on bucket {bucket!r}"
            )
        elif error.status == _NOT_FOUND:
            text = f"InfluxDB has no bucket {bucket!r} at {self.settings.url} ({words}): create it"
        else:
            text = f"InfluxDB answers {error.status}: {words}"
        # All of these end when a person has put it right; until then the log keeps the data, so: try again.
        return StorageError(text, retry=True)

    def _unreachable(self, error: urllib3.exceptions.HTTPError) -> StorageError:
        words = self._clean(str(error).rsplit(">: ", maxsplit=1)[-1])
        return StorageError(f"InfluxDB at {self.settings.url} cannot be reached: {words}", retry=True)

    def _words(self, error: ApiException) -> str:
        body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body or ""
        try:
            answer: Any = json.loads(body)
        except ValueError:
            answer = body
        if isinstance(answer, dict):
            data = answer.get("data")
            detail = data[0].get("error_message", "") if isinstance(data, list) and data else ""
            answer = f"{answer.get('error') or answer.get('message') or answer}{': ' if detail else ''}{detail}"
        text = str(answer)
        return self._clean(str(error.reason) if not text or text.startswith("<") else text)  # no pages of HTML

    def _clean(self, text: str) -> str:
        text = _ITS_LINE.sub(r"\1", " ".join(text.split()))
        for secret in (self.settings.token, self.settings.token.partition(":")[2]):
            text = text.replace(secret, "***") if secret else text
        return text[:REASON_CHARS]


def _is_json(body: str | bytes | None) -> bool:
    try:
        json.loads(body or "")
    except ValueError:
        return False
    return True


def _retry_after(error: ApiException) -> float:
    text = str(error.retry_after or "")
    return min(float(text), BUSY_WAIT_MAX_S) if text.isdigit() else BUSY_WAIT_S
