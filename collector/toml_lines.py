"""Finds the line of every key in a TOML text that `tomllib` has already accepted. Finds places; judges nothing."""

KeyPath = tuple[str | int, ...]

_BARE_END = frozenset(" \t=.]#,}\n\r")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every table, key and list item in the text."""
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.run()
    return scanner.lines


def line_of(lines: dict[KeyPath, int], key: KeyPath) -> int:
    """Return the line of the key, or of the nearest table around it that is written; 1 where none is."""
    for end in range(len(key), 0, -1):
        if key[:end] in lines:
            return lines[key[:end]]
    return 1


class _Scanner:
    """One pass over the text: headers, `key = value`, lists and inline tables, strings of all four forms."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.lines: dict[KeyPath, int] = {}
        self.items: dict[KeyPath, int] = {}  # how many items an array of tables has by now

    def run(self) -> None:
        table: KeyPath = ()
        self.blank()
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            self.blank()

    def step(self, count: int = 1) -> None:
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count

    def blank(self) -> None:
        """Pass over spaces, line ends and comments."""
        while self.at < len(self.text):
            if self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif self.text[self.at] in " \t\n":
                self.step()
            else:
                return

    def header(self) -> KeyPath:
        """Read `[a.b]` or `[[a.b]]` and return the table's path, with the index of the newest item of each array."""
        line = self.line
        array = self.text.startswith("[[", self.at)
        self.at += 1 + array
        parts = self.key()
        self.at += 1 + array
        path: KeyPath = ()
        for position, part in enumerate(parts):
            path = (*path, part)
            self.lines.setdefault(path, line)
            if path in self.items and not (array and position == len(parts) - 1):
                path = (*path, self.items[path] - 1)
        if array:
            index = self.items.get(path, 0)
            self.items[path] = index + 1
            path = (*path, index)
        self.lines[path] = line
        return path

    def key(self) -> list[str]:
        """Read a dotted key up to what follows it."""
        parts = []
        while True:
            self.blank()
            if self.text[self.at] in "\"'":
                parts.append(self.string())
            else:
                start = self.at
                while self.text[self.at] not in _BARE_END:
                    self.at += 1
                parts.append(self.text[start : self.at])
            self.blank()
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def pair(self, table: KeyPath) -> None:
        line = self.line
        path = table
        for part in self.key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.at += 1  # =
        self.blank()
        self.value(path)

    def value(self, path: KeyPath) -> None:
        opening = self.text[self.at]
        if opening == "[":
            self.at += 1
            self.members("]", path, numbered=True)
        elif opening == "{":
            self.at += 1
            self.members("}", path, numbered=False)
        elif opening in "\"'":
            self.string()
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
                self.at += 1

    def members(self, closing: str, path: KeyPath, *, numbered: bool) -> None:
        index = 0
        self.blank()
        while self.text[self.at] != closing:
            if numbered:
                self.lines[(*path, index)] = self.line
                self.value((*path, index))
                index += 1
            else:
                self.pair(path)
            self.blank()
            if self.text[self.at] == ",":
                self.at += 1
                self.blank()
        self.at += 1

    def string(self) -> str:
        quote = self.text[self.at]
        mark = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.at += len(mark)
        out = []
        while not self.text.startswith(mark, self.at):
            if self.text[self.at] == "\\" and quote == '"':
                out.append(_ESCAPES.get(self.text[self.at + 1], self.text[self.at + 1]))
                self.step(2)
            else:
                out.append(self.text[self.at])
                self.step()
        self.at += len(mark)
        while len(mark) == 3 and self.text.startswith(quote, self.at):  # up to two quotes may end the text itself
            self.at += 1
        return "".join(out)
