"""How a run ended: turns what the programs printed into one line that says what is wrong and how to fix it."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sharkstat.errors import RequestError, SharkstatError, SourceError, StatisticError, TsharkError
from sharkstat.running.drops import Drops
from sharkstat.running.opened import BUFFER, Opened
from sharkstat.running.plan import Plan
from sharkstat.running.screening import Screened
from sharkstat.tshark.capturefilter import display_filter_of
from sharkstat.tshark.fields import nearest_fields
from sharkstat.tshark.process import Tshark
from sharkstat.tshark.records import Failure, Records

NO_CAPTURE = "{} is not a capture file in a format that tshark understands: check the name"


@dataclass
class Ending:
    """The end of a pass: exit status and messages of tshark, and of dumpcap or mergecap."""

    plan: Plan
    records: Records
    opened: Opened
    tshark: Tshark
    status: int
    stderr: list[str]
    interrupted: bool
    too_late: bool = False
    too_large: int = 0  # the limit of memory, where it ended the run
    screened: Screened | None = None

    @property
    def helper_errors(self) -> list[str]:
        return self.opened.said

    def last_words(self) -> str:
        words = [line for line in self._complaints() if line]
        return words[-1] if words else "nothing"

    def _complaints(self) -> list[str]:
        """tshark's messages on stderr, without the usual ones, and with the source's real name."""
        name = self.plan.source.names[0] if self.plan.source.names else "-"
        lines = []
        for line in self.stderr:
            text = line.strip().removeprefix("tshark: ")
            if not text or text.startswith(("Running as user", "Capturing on")):
                continue
            text = text.replace('The file "-"', f'The file "{name}"').replace("The standard input", name)
            lines.append(text)
        return lines

    def raise_failures(self) -> None:
        """Raise the error that left the run without results. Failures of single statistics are handled elsewhere."""
        records, source, status, helper_errors = self.records, self.plan.source, self.status, self.helper_errors
        ended = self._tshark_ended()
        if source.live and self._died() and not self._packets() and not ended:
            self._raise_capture_failure()
        if not self._ended_by_us:
            self._raise_for_no_capture()
        if records.stranger:
            names = ", ".join(self.opened.strangers)
            raise SourceError(f"{names} is not a capture file (tshark reads it as {records.stranger}): check the name")
        if not records.ready:
            for where, failure in records.failures.items():
                raise self._start_error(where, failure)
        if records.ended:
            if not (self._ended_by_us or source.read_filter or status):
                self._raise_for_no_packet()
            return
        if self.interrupted:
            raise KeyboardInterrupt
        if self.too_large:
            raise TsharkError(
                f"no results: the run takes more than {_size(self.too_large)} of memory (--max-memory): "
                "read less (-c, -R), count fewer statistics, or allow more"
            )
        if self.too_late:
            raise TsharkError(
                f"no results: tshark printed nothing within {source.timeout:g} s (--timeout), nor when asked to stop"
            )
        complaint = self._complaints()
        if not records.ready and status >= 0:
            self.tshark.check()
        if ended:
            name = ended
            suspects = [suspect for part in self.plan.parts for suspect in part.suspects]
            if name == "SIGABRT" and suspects:
                raise TsharkError(
                    f"tshark aborted (SIGABRT), a bug in one of {', '.join(suspects)}: run them one at a time"
                )
            why = (
                "by another program"
                if name == "SIGTERM"
                else "perhaps for lack of memory: try fewer statistics at once"
            )
            raise TsharkError(f"no results: tshark was killed ({name}), {why}")
        text = " ".join(complaint)
        for path in (self.opened.path, "-"):
            text = text.replace(f'"{path}"', f'"{source.names[0]}"')
        if any(
            s in text
            for s in (
                "isn't a capture file",
                "not a capture file",
                "file format",
                "unknown file",
                "isn't a valid",
            )
        ):
            raise SourceError(NO_CAPTURE.format(source.names[0]))
        # tshark 4.6 says so of what it cannot guess from a pipe.
        if self.opened.unknown and re.search(r"could not be opened: Success|cut short", text):
            raise SourceError(NO_CAPTURE.format(", ".join(self.opened.unknown)))
        if not records.ready and not complaint:
            raise TsharkError(
                "tshark silently ran no Lua script, as tshark 4.4 and later do in group 0: "
                "run sharkstat as a user outside the group root"
            )
        if not records.ready and status == 0:
            raise TsharkError(f"tshark did not load the taps: {text}")
        if source.live and helper_errors:
            raise SourceError(reason_of(helper_errors) or "dumpcap gave no reason")
        if status == 0:
            raise TsharkError(
                "tshark silently stopped early: no results for " + ", ".join(r.text for r in self.plan.requests)
            )
        reason = complaint[0] if complaint else f"tshark ended with status {status}"
        # "record data that TShark doesn't support", "a network type that tshark doesn't support"
        if re.search(r"cut short|corrupt|damaged|that tshark doesn't support", reason, re.IGNORECASE) or (
            records.ready and re.search(r"\bfile\b", reason)
        ):
            raise SourceError(f"{reason.rstrip('.')}: no packet could be read")
        if status in (1, 2, 3, 4):  # 4 is a bad filter, from tshark 4.2 on
            raise RequestError(f"tshark rejected the request: {reason}")
        raise TsharkError(f"tshark failed with exit status {status}: {reason}")

    @property
    def _ended_by_us(self) -> bool:
        """Whether the run stopped reading: then a helper that complains of its input had no more to read."""
        return bool(self.interrupted or self.too_late or self.too_large)

    def _raise_for_no_capture(self) -> None:
        """Raise for a file that mergecap cannot read."""
        for line in self.helper_errors:
            if "can't be written" in line and self.opened.strangers:  # mergecap 4.4 and later name no file here
                raise SourceError(NO_CAPTURE.format(", ".join(self.opened.strangers)))
            for name in self.plan.source.files:
                strange = "isn't a capture file" in line or name in self.opened.strangers
                if f'"{name}"' in line and name in self.opened.cut:
                    raise SourceError(f"{name} is cut short: no packet can be read")
                if f'"{name}"' in line and strange:
                    raise SourceError(NO_CAPTURE.format(name))

    def _raise_for_no_packet(self) -> None:
        """Raise for what is read to its end, and is no pcap or pcapng, and has no packet."""
        empty = [] if self.opened.problems() or self._died() else self.opened.without_packets(self.records.newest)
        if empty:
            raise SourceError(
                f"{', '.join(empty)} is not a capture file that tshark understands, or it has no packet: check the name"
            )

    def _tshark_ended(self) -> str:
        """The signal that ended tshark, without being asked to by us; or ""."""
        if self.status < 0:
            return signal.Signals(-self.status).name
        # While it reads, it ends with 2, and without a word, where somebody sends it SIGTERM.
        silent = self.status == 2 and self.records.ready and not self.records.ended and not self._complaints()
        return "SIGTERM" if silent else ""

    def _start_error(self, where: str, failure: Failure) -> SharkstatError:
        message = failure.message
        if where.startswith("load "):
            name = Path(where[5:]).name
            said = f"the tap {name} failed to load: {message}"
            users = {number for part in self.plan.parts for number, file in part.files() if file.name == name}
            failed = {self.plan.requests[number].text: said for number in users}
            return StatisticError(said, failed=failed, traceback=failure.traceback)
        unknown = re.search(r"no such field: (\S+)$", message)
        if unknown or where.startswith("field "):
            name = unknown[1] if unknown else where[6:]
            said = message if unknown else f"no such field: {name}"
            whose = [r.text for r in self.plan.requests if name in r.task.reads]
            asked = f"-z {whose[0]}: " if whose and len(self.plan.requests) > 1 else ""
            said = f"{asked}{said}{nearest_fields(self.tshark, name)}"
            if 0 < len(whose) < len(self.plan.requests) and not any(name in text for text in whose):
                return StatisticError(said, failed=dict.fromkeys(whose, said))  # the plugin's word, not the user's
            return RequestError(said)
        what = "-Y" if where == "-" else f"-z {self.plan.requests[int(where)].text}"
        if "is invalid" in message:
            quoted = message[message.index('Filter "') :] if 'Filter "' in message else message
            head, _, reason = quoted.partition(" is invalid - ")
            given = [self.plan.source.display_filter] if where == "-" else self.plan.requests[int(where)].filters
            for text in filter(None, given):
                if text in head and (meant := display_filter_of(text)):
                    return RequestError(f"{what}: {text!r} is a capture filter; as a display filter: {meant}")
            said = f"{what}: invalid display filter {head.removeprefix('Filter ')}: {' '.join(reason.split())}"
            unknown = re.search(r'"?([\w.\-]+)"? is (?:neither a field nor|not a valid protocol)', reason)
            said = said.rstrip(".") + nearest_fields(self.tshark, unknown[1]) if unknown else said
            text = "" if where == "-" else self.plan.requests[int(where)].text
            if text and len(self.plan.requests) > 1 and head.removeprefix("Filter ").strip('"') not in text:
                return StatisticError(said, failed={text: said})  # the plugin's filter, not the user's
            return RequestError(said)
        if where != "-" and message.startswith(self.plan.requests[int(where)].task.speakers):
            return RequestError(message)
        failed = {} if where == "-" else {self.plan.requests[int(where)].text: f"{what}: {message}"}
        return StatisticError(f"{what}: {message}", failed=failed, traceback=failure.traceback)

    def _raise_capture_failure(self) -> None:
        reason = reason_of(self.helper_errors)
        if not reason:
            raise TsharkError(f"{self._died()[0]} before it captured a packet")
        text = " ".join(self.helper_errors)
        interface = ", ".join(self.plan.source.interfaces)
        if "Invalid capture filter" in text or "isn't a valid capture filter" in text:
            detail = text[text.find("(") + 1 : text.rfind(")")] if "(" in text else reason
            raise RequestError(f"-f: invalid capture filter {self.plan.source.capture_filter!r}: {detail}")
        if "permission" in text.lower() or "not permitted" in text.lower():
            raise SourceError(
                f"no permission to capture on {interface}: run as root, or join the group that may capture "
                "(Debian: dpkg-reconfigure wireshark-common, then adduser $USER wireshark, and log in again)"
            )
        if (
            "No such device" in text
            or "doesn't exist" in text
            or "no interface" in text.lower()
            or "There is no" in text
        ):
            raise SourceError(f"no such interface: {interface} (`dumpcap -D` lists them)")
        if reason.startswith(("The specified", "Invalid or unknown")):
            raise RequestError(f"dumpcap rejected the options: {reason}")
        raise SourceError(f"cannot capture on {interface}: {reason}")

    def judge(self, with_drops: bool = True) -> tuple[bool, list[str]]:
        """Whether the source was read to its end, and the warnings about it."""
        status, helper_errors = self.status, self.helper_errors
        warnings: list[str] = []
        complete = True
        died = self._died()
        # If a helper died, a truncated input is not the file's fault.
        complaints = [text for text in self._complaints() if not (died and "cut short" in text)]
        for text in [*complaints, *(line.removeprefix("mergecap: ") for line in helper_errors)]:
            if "cut short" in text and not self._ended_by_us:
                rest = (
                    "; later packets of the other files are not: --per-file counts them"
                    if self.opened.stops_at_damage and len(self.opened.source.files) > 1
                    else ""
                )
                warnings.append(f"{text.rstrip('.')}: packets before that point are counted{rest}")
                complete = False
            elif self._ended_by_us:
                continue
            elif "corrupt" in text or "damaged" in text or "malformed" in text:
                warnings.append(text)
                complete = False
        drops = self.drops()
        few, said = judge_drops(self.plan, drops, drops.captured or self._packets()) if with_drops else (True, [])
        complete, warnings = complete and few, warnings + said
        if self._ended_by_us:
            troubles = self.opened.problems() + [f"{how}: packets before that are counted" for how in died]
            how = self._stopped()
            return complete and not how and not troubles, warnings + ([how] if how else []) + troubles
        if status != 0 and complete:
            warnings += complaints or ([] if died else [f"tshark ended with status {status}"])
            complete = False
        # mergecap's exit status only repeats what was already said about a file.
        new = [how for how in died if complete or " was killed " in how]
        told = [text for text in warnings if "cut short" in text]
        troubles = [text for text in self.opened.problems() if not any(text.split(" is cut")[0] in t for t in told)]
        troubles += [f"{how}: packets before that are counted" for how in new]
        if complete and not troubles:
            troubles = [reason_of([line]) for line in helper_errors if line.startswith("dumpcap: ")][:1]
        missing = self._unannounced()
        if missing:
            packets = "1 packet is" if missing == 1 else f"{missing:,} packets are"
            troubles.append(
                f"{packets} not counted: tshark hides ICMP errors whose quoted packet is truncated or damaged"
            )
        if troubles:
            warnings += troubles
            complete = False
        return complete, warnings

    def _stopped(self) -> str:
        """What ended the reading of what would have gone on; "" for a capture that was interrupted, as is usual."""
        if self.interrupted:
            return "" if self.plan.source.live else "interrupted: only part of the source was read"
        if self.too_large:
            return (
                f"stopped at half of {_size(self.too_large)} of memory (--max-memory), since the tables need the rest: "
                "packets read by then are counted"
            )
        return f"stopped after {self.plan.source.timeout:g} s (--timeout): packets read by then are counted"

    def _unannounced(self) -> int:
        """How many packets tshark read without telling the taps."""
        source = self.plan.source
        if source.two_pass or source.read_filter:  # which numbers packets anew
            return 0
        after = 0
        if self.screened is not None and not (
            self.opened.is_part or source.dedup or source.live or source.packets is not None
        ):
            after = max(0, self.screened.seen - self.records.newest)
        return self.records.unannounced + after

    def _died(self) -> list[str]:
        """The helpers that failed, with the reasons they gave."""
        died = []
        for helper in self.opened.helpers:
            status = helper.process.returncode
            cut_off = (
                self._ended_by_us and status > 0 and not self.plan.source.live
            )  # mergecap, which had no more to read
            if helper.died and not cut_off and not self._left_early(status):
                reason = reason_of(helper.said)
                died.append(f"{helper.died}: {reason}" if reason else helper.died)
        # A service manager asks all processes of a run to end at once.
        if not died and not self.interrupted and self.opened.stopped_early(self.drops().captured or self._packets()):
            died.append("dumpcap was ended by another program")
        return died

    def _left_early(self, status: int) -> bool:
        """Whether a helper failed only because tshark had read all packets that -c asked for."""
        return status == -signal.SIGPIPE and self.plan.source.packets is not None and not self.plan.source.live

    def _packets(self) -> int:
        return int(self.records.books[0]) if self.records.books else 0

    def drops(self) -> Drops:
        """What dumpcap's own last lines say of the packets, and what was known before; nothing for files."""
        captured: int | None = None
        said: tuple[int, ...] = ()
        for line in self.helper_errors if self.plan.source.live else ():
            if line.startswith("Packets captured:"):
                captured = int(line.split(":")[1])
            elif found := _DROPS.search(line):
                counts = map(int, found.groups())
                said = tuple(a + b for a, b in zip(said or (0, 0, 0, 0), counts, strict=True))
        drops = Drops(captured)
        if said:
            kernel, dumpcap, flushed, interface = said
            drops = Drops(captured, kernel, interface, dumpcap + flushed)
        early = self.opened.kernel_dropped
        return drops.plus(early) if early else drops


# As "Packets received/dropped on interface 'eth0': 20/3 (pcap:3/dumpcap:0/flushed:0/ps_ifdrop:0) (87.0%)".
_DROPS = re.compile(r"received/dropped on interface .*\(pcap:(\d+)/dumpcap:(\d+)/flushed:(\d+)/ps_ifdrop:(\d+)\)")


def judge_drops(plan: Plan, drops: Drops, packets: int) -> tuple[bool, list[str]]:
    """Whether few enough packets were dropped, and what there is to say of it; `packets` were not."""
    source = plan.source
    advice = ["-f captures less"]
    if drops.kernel or drops.dumpcap:
        advice.append(f"-B {2 * (source.buffer_size or BUFFER)} buffers more")
    headers_only = all(r.task.layer == "transport" and not r.above_transport for r in plan.requests)
    if source.snaplen is None and headers_only:
        advice.append("-s 128 is enough for what is counted here")
    return drops.judged(packets, source.max_drop, advice)


def reason_of(said: Sequence[str]) -> str:
    """The first meaningful line of dumpcap's or mergecap's messages, or ""."""
    for line in said:
        text = line.removeprefix("dumpcap: ").removeprefix("mergecap: ").strip()
        if text and not text.startswith(("Capturing on", "File:", "Packets")):
            return text
    return ""


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"
