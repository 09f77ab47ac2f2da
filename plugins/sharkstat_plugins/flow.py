"""flow,any flow,icmp flow,icmpv6 flow,lbm_uim flow,tcp: the messages between addresses, in order.

tshark draws a ladder: a line of nodes, then two lines a message, the first with its label and comment, the
second with its arrow and ports. The arrow's place says who sent to whom, so each line is drawn again here and must
come out the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from sharkstat import Column, Parsed, Statistic, TextError, TsharkText, Value, both_filters, hookimpl, text_of
from sharkstat_plugins.tshark_text import decimal

MODES = ("standard", "network")
TITLES = {"any": "All packets", "icmp": "ICMP", "icmpv6": "ICMPv6", "lbm_uim": "LBM UIM", "tcp": "TCP"}

WIDTH = 20  # a node's column
OVERFLOW = 41  # what tshark calls every node after the fortieth; it draws them right of all others

_PREFIX = re.compile(r"\|(-?\d+\.\d+|-?\d+|) *(?=\|)")
_NODE = re.compile(r"\| ([^\s|](?:[^|]*[^\s|])?)")
_ARROW = re.compile(r"<-+|-+>")
_PORT = re.compile(r"\((\d+)\)")


class Flow(Statistic):
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = f"flow,{kind}"
        self.title = f"{TITLES.get(kind, kind)} flow"
        self._text = TsharkText(self.parse, self.native)
        self.engines = (self._text,)
        self.usage = f"flow,{kind}[,standard|network][,FILTER]"
        self.description = (
            "One row per message of the flow graph, with source, destination and comment (labels are truncated as "
            "in tshark's drawing). `standard` shows network addresses; `network` also shows link-layer addresses "
            "of packets without them. A source or destination is empty if the drawing does not show it: beyond the "
            "fortieth address, or where tshark 4.0 draws a message to its own sender as one to the next address."
        )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return (
            Column(
                "number",
                "integer",
                role="key",
                local="always",
                description="number of the message, in the order of the drawing",
            ),
            Column("time", "time", merge="none"),
            Column(
                "conversation", "integer", merge="none", description="number of the conversation, if there are several"
            ),
            Column("source", "address", merge="none"),
            Column("source_port", "integer", merge="none"),
            Column("destination", "address", merge="none"),
            Column("destination_port", "integer", merge="none"),
            Column("label", "text", merge="none", shown=False, description="truncated as in tshark's drawing"),
            Column("comment", "text", merge="none"),
        )

    def filters(self, arguments: str) -> Sequence[str]:
        display_filter = _split(arguments)[1]
        return (display_filter,) if display_filter else ()

    def native(self, arguments: str, display_filter: str) -> str:
        mode, own = _split(arguments)
        return ",".join(filter(None, (self.name, mode, both_filters(display_filter, own))))

    def parse(self, text: bytes, arguments: str) -> Parsed:
        # Until the drawing is read, a character is as wide as tshark drew it: text_of spells some at length.
        lines = text.decode("utf-8", "surrogateescape").split("\n")
        if lines.pop():
            raise TextError("the drawing's last line has no end")
        if not lines:
            return Parsed([])
        if len(lines) < 4:
            raise TextError("the drawing has no message")
        drawing = _Drawing(lines[0], lines[1], self._label_fits)
        rows = drawing.messages(lines[2:])
        warnings = []
        version = tuple(int(part) for part in re.findall(r"\d+", self._text.version)[:2])
        if unknown := drawing.forget_doubtful(rows, certain=version >= (4, 3)):
            warnings.append(
                f"{self.name}: messages without a destination: {unknown}; this tshark draws what an address sends to "
                "itself as sent to the next one"
            )
        for row in rows:
            row[LABEL], row[COMMENT] = _told(row[LABEL]), _told(row[COMMENT])
        return Parsed([[number, *row] for number, row in enumerate(rows, 1)], warnings=tuple(warnings))

    def align(self, tables):  # type: ignore[no-untyped-def]
        raise self.refuse_merge("its rows are single messages: read the files in one run instead")

    def _label_fits(self, label: str, width: int, comment: str) -> bool:
        """Whether a label, cut to a width, and a comment may belong together."""
        if self.kind == "tcp":
            return comment.startswith("Seq = ")
        return label == comment.partition(": ")[2][:width]


def _split(arguments: str) -> tuple[str, str]:
    """The mode and the filter. Where no mode is given, it is standard."""
    mode, _, rest = arguments.partition(",")
    if mode.strip() in MODES:
        return mode.strip(), rest.strip()
    return MODES[0], arguments.strip().removeprefix(",").strip()


# Source and destination stay node numbers until all messages are read.
Message = list[Value]
TIME, CONVERSATION, SOURCE, SOURCE_PORT, DESTINATION, DESTINATION_PORT, LABEL, COMMENT = range(8)


class _Drawing:
    def __init__(self, first: str, second: str, fits: Callable[[str, int, str], bool]) -> None:
        self._fits = fits
        self._several = first.startswith("Conv.| Time    |")
        title, self._indent = ("Conv.| Time    ", "     |         ") if self._several else ("|Time     ", "|         ")
        even, odd = _NODE.findall(first[len(title) :]), _NODE.findall(second[len(self._indent) :])
        if not 0 <= len(even) - len(odd) <= 1:
            raise TextError("the drawing's first lines do not name its nodes")
        self.names = [name for pair in zip(even, [*odd, ""]) for name in pair if name]  # noqa: B905 - may be one less
        self._grid = "| ".ljust(WIDTH) * len(self.names) + "|"
        heads = ("".join(f"| {name}".ljust(2 * WIDTH) for name in even) + "|", "| ".ljust(WIDTH))
        heads = (heads[0], heads[1] + "".join(map(_odd_node, odd)))
        if [first, second] != [title + heads[0], self._indent + heads[1]]:
            raise TextError("the drawing's first lines do not name its nodes")
        # tshark rules a line between conversations, one longer than what it writes beside it.
        self._rule = "-" * (len(self._grid) + len(title) + (1 if self._several else 0))

    def messages(self, lines: Sequence[str]) -> list[Message]:
        found: list[Message] = []
        at = 0
        while at < len(lines):
            ruled = self._several and lines[at] == self._rule
            at += ruled
            if at + 2 > len(lines):
                raise TextError("the drawing ends within a message")
            message = self._message(lines[at], lines[at + 1])
            if ruled != bool(found and found[-1][CONVERSATION] != message[CONVERSATION]):
                raise TextError(f"message {len(found) + 1} is not ruled off as a new conversation is")
            found.append(message)
            at += 2
        return found

    def _message(self, labels: str, arrows: str) -> Message:
        conversation: int | None = None
        rest = labels
        if self._several:
            number = re.match(r"\d+", labels)
            if not number or not labels.startswith(number[0].ljust(5)):
                raise TextError(f"no conversation's number in {labels!r:.60}")
            conversation, rest = int(number[0]), labels[len(number[0].ljust(5)) :]
        time = _PREFIX.match(rest)
        if not time or time[0] != f"|{time[1]}".ljust(10):
            raise TextError(f"no time in {labels!r:.60}")
        if not arrows.startswith(self._indent):
            raise TextError(f"no arrow in {arrows!r:.60}")
        source, destination, ports = self._ends(arrows[len(self._indent) :])
        label, comment = self._label(rest[len(time[0]) :], source, destination)
        return [
            decimal(time[1], 10**9) if time[1] else None,
            conversation,
            source,
            ports[0],
            destination,
            ports[1],
            label,
            comment,
        ]

    def _ends(self, body: str) -> tuple[int, int, tuple[int, int]]:
        """Source, destination and their ports: those that draw this line."""
        arrow, ports = _ARROW.search(body), [int(port) for port in _PORT.findall(body)]
        if arrow and len(ports) == 2:
            left, right = arrow.start(), arrow.start() + len(arrow[0]) + 1
            backwards = arrow[0][0] == "<"
            start, end = (right, left) if backwards else (left, right)
            source, destination = (start - WIDTH // 2) // WIDTH, (end - WIDTH // 2) // WIDTH
            if left == len(self._grid):
                source = destination = OVERFLOW
            elif not backwards and source == len(self.names) - 1 and destination == source + 1:
                destination = source  # there is no next node
            sent, taken = ports[::-1] if backwards else ports
            known = {*range(len(self.names)), OVERFLOW}
            if {source, destination} <= known and body == self._arrow(source, destination, sent, taken):
                return source, destination, (sent, taken)
        raise TextError(f"no arrow between two nodes in {body!r:.60}")

    def _arrow(self, source: int, destination: int, sent: int, taken: int) -> str:
        start, end = _span(source, destination)
        width = abs(end - start)
        arrow = ">".rjust(width - 1, "-") if start < end else "<".ljust(width - 1, "-")
        line = _overwrite(self._grid, arrow, start, end)
        if start < end:
            line = _overwrite(line, f"({sent})", start - 9, start - 1)
            return _overwrite(line, f"({taken})", end + 1, end + 9)
        line = _overwrite(line, f"({sent})", start + 1, start + 9)
        return _overwrite(line, f"({taken})", end - 9, end + 1)

    def _label(self, body: str, source: int, destination: int) -> tuple[str, str]:
        start, end = sorted(_span(source, destination))
        grid = self._grid
        if end <= len(grid) and body[:start] == grid[:start] and body[end : len(grid)] == grid[end:]:
            cut = end
            while cut > start and body[cut - 1] == grid[cut - 1]:
                cut -= 1
            return body[start:cut], body[len(grid) :]
        # Right of the last node tshark inserts a label instead of laying it over the grid, so its length
        # must be found.
        at = min(start, len(grid))
        fitting: dict[str, str] = {}
        for length in range(min(end - start, len(body) - at) + 1):
            label = body[at : at + length]
            drawn = _overwrite(grid, label, start, end)
            comment = body[len(drawn) :]
            if body.startswith(drawn) and self._fits(label, end - start, comment):
                fitting.setdefault(comment, label)
        if len(fitting) != 1:
            raise TextError(f"no label between two nodes in {body!r:.60}")
        return next((label, comment) for comment, label in fitting.items())

    def forget_doubtful(self, messages: Sequence[Message], certain: bool) -> int:
        """Name the nodes in the messages, but not where a message may be for its own sender. How many those are.

        Up to tshark 4.2 such an arrow points to the next node; later ones (`certain`) draw that address twice.
        """
        if certain or len(set(self.names)) < len(self.names):
            doubtful = set()
        else:
            onward = Counter((m[SOURCE], m[SOURCE_PORT], m[DESTINATION_PORT]) for m in messages if _is_onward(m))
            # Both directions of one conversation point the same way: they are between an address and itself.
            doubtful = {node for node, sent, taken in onward if sent != taken and (node, taken, sent) in onward}
            doubtful |= {node for node, name in enumerate(self.names) if _is_loopback(name)}
        forgotten = 0
        for message in messages:
            source, onward_now = message[SOURCE], _is_onward(message)
            message[SOURCE], destination = self._name(source), self._name(message[DESTINATION])
            if onward_now and OVERFLOW not in (source, message[DESTINATION]):
                if not certain and len({_family(str(message[SOURCE])), _family(str(destination))} - {""}) == 2:
                    destination = message[SOURCE]  # no packet goes from one family of addresses to another
                elif source in doubtful:
                    destination = None
                    forgotten += 1
            message[DESTINATION] = destination
        return forgotten

    def _name(self, node: Value) -> Value:
        assert isinstance(node, int)
        return None if node == OVERFLOW else _told(self.names[node])


def _told(drawn: Value) -> str:
    """What is drawn, as tables have it."""
    return text_of(str(drawn).encode("utf-8", "surrogateescape"))


def _odd_node(name: str) -> str:
    cell = f"| {name}"
    return (cell.ljust(WIDTH) + "| " if len(cell) < WIDTH else cell).ljust(2 * WIDTH)


def _span(source: int, destination: int) -> tuple[int, int]:
    """Where tshark's arrow starts and ends."""
    start, end = (node * WIDTH + WIDTH // 2 for node in (source, destination))
    return (start, end if end != start else start + WIDTH)


def _overwrite(line: str, text: str, one: int, other: int) -> str:
    """Put a text over the line between two places, exactly as tshark does: past its end it only inserts."""
    text = text[: abs(one - other)]
    at = min(one, other, len(line))
    rest = line[at + len(text) :] if at + len(text) <= len(line) else line[at:]
    return line[:at] + text + rest


def _is_onward(message: Message) -> bool:
    return message[DESTINATION] == message[SOURCE] + 1  # type: ignore[operator]


def _family(name: str) -> str:
    try:
        return f"IPv{ip_address(name.partition('%')[0]).version}"
    except ValueError:
        return "MAC" if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", name) else ""


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    def take(name: str) -> Flow | None:
        return Flow(name.removeprefix("flow,")) if name.startswith("flow,") else None

    register("flow", take)
