"""How a run ended: what its programs said, and what that means, in one line that names the mend."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sharkstat.errors import RequestError, SharkstatError, SourceError, StatisticError, TsharkError
from sharkstat.running.opened import BUFFER, Opened
from sharkstat.running.plan import Plan
from sharkstat.tshark.fields import nearest_fields
from sharkstat.tshark.process import Tshark
from sharkstat.tshark.records import Failure, Records

NO_CAPTURE = "{} is not a capture file in a format that tshark knows: check the name"


@dataclass
class Ending:
    """The end of a pass: tshark's exit status and words, and those of dumpcap or mergecap."""

    plan: Plan
    records: Records
    opened: Opened
    tshark: Tshark
    status: int
    stderr: list[str]
    interrupted: bool
    too_late: bool = False

    @property
    def helper_errors(self) -> list[str]:
        return self.opened.said

    def last_words(self) -> str:
        words = [line for line in self._complaints() if line]
        return words[-1] if words else "nothing"

    def _complaints(self) -> list[str]:
        """What tshark said on stderr, without what it always says, and with the source's own name."""
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
        """Raise what kept the run from having results; statistics that failed by themselves are not meant."""
        records, source, status, helper_errors = self.records, self.plan.source, self.status, self.helper_errors
        if source.live and self._died() and not self._packets():
            self._raise_capture_failure()
        for line in helper_errors:
            if "can't be written" in line and self.opened.strangers:  # mergecap 4.4 and later name no file here
                raise SourceError(NO_CAPTURE.format(", ".join(self.opened.strangers)))
            for name in self.plan.source.files:
                strange = "isn't a capture file" in line or name in self.opened.strangers
                if f'"{name}"' in line and strange:
                    raise SourceError(NO_CAPTURE.format(name))
        if records.stranger:
            names = ", ".join(self.opened.strangers)
            raise SourceError(f"{names} is not a capture file (tshark takes it for {records.stranger}): check the name")
        if not records.ready:
            for where, failure in records.failures.items():
                raise self._start_error(where, failure)
        if records.ended:
            return
        if self.interrupted:
            raise KeyboardInterrupt
        if self.too_late:
            raise TsharkError(
                f"tshark gave nothing in {source.timeout:g} s (--timeout), nor when it was told to end: no results"
            )
        complaint = self._complaints()
        if not records.ready and status >= 0:
            self.tshark.check()
        if status < 0:
            name = signal.Signals(-status).name
            suspects = [suspect for part in self.plan.parts for suspect in part.suspects]
            if name == "SIGABRT" and suspects:
                raise TsharkError(
                    f"tshark aborted (SIGABRT): a fault of its own, in one of {', '.join(suspects)}; "
                    "ask for them one by one"
                )
            raise TsharkError(
                f"tshark was killed ({name}) before its end: no results; is memory short? Try fewer requests"
            )
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
        if not records.ready and not complaint:
            raise TsharkError(
                "tshark ran no Lua script, without a word: tshark 4.4 and later do so in group 0; "
                "run sharkstat as a user outside the group root"
            )
        if not records.ready and status == 0:
            raise TsharkError(f"tshark did not load the taps: {text}")
        if source.live and helper_errors:
            raise SourceError(reason_of(helper_errors) or "dumpcap gave no reason")
        if status == 0:
            raise TsharkError(
                "tshark stopped before its end, without a word: no results for "
                + ", ".join(r.text for r in self.plan.requests)
            )
        reason = complaint[0] if complaint else f"tshark ended with status {status}"
        if re.search(r"cut short|corrupt|damaged", reason) or (records.ready and re.search(r"\bfile\b", reason)):
            raise SourceError(f"{reason.rstrip('.')}: no packet could be read")
        if status in (1, 2, 3, 4):  # 4 is a bad filter, from tshark 4.2 on
            raise RequestError(f"tshark refused: {reason}")
        raise TsharkError(f"tshark failed with status {status}: {reason}")

    def _start_error(self, where: str, failure: Failure) -> SharkstatError:
        message = failure.message
        if where.startswith("load "):
            return StatisticError(
                f"the tap {Path(where[5:]).name} does not load: {message}", traceback=failure.traceback
            )
        unknown = re.search(r"no such field: (\S+)$", message)
        if unknown or where.startswith("field "):
            name = unknown[1] if unknown else where[6:]
            said = message if unknown else f"no such field: {name}"
            return RequestError(f"{said}{nearest_fields(self.tshark, name)}")
        what = "-Y" if where == "-" else f"-z {self.plan.requests[int(where)].text}"
        if "is invalid" in message:
            quoted = message[message.index('Filter "') :] if 'Filter "' in message else message
            head, _, reason = quoted.partition(" is invalid - ")
            said = f"{what}: bad display filter {head.removeprefix('Filter ')}: {' '.join(reason.split())}"
            unknown = re.search(r'"?([\w.\-]+)"? is (?:neither a field nor|not a valid protocol)', reason)
            return RequestError(said.rstrip(".") + nearest_fields(self.tshark, unknown[1]) if unknown else said)
        if where != "-" and message.startswith(self.plan.requests[int(where)].task.speakers):
            return RequestError(message)
        return StatisticError(f"{what}: {message}", traceback=failure.traceback)

    def _raise_capture_failure(self) -> None:
        reason = reason_of(self.helper_errors)
        if not reason:
            raise TsharkError(f"{self._died()[0]} before it captured a packet")
        text = " ".join(self.helper_errors)
        interface = ", ".join(self.plan.source.interfaces)
        if "Invalid capture filter" in text or "isn't a valid capture filter" in text:
            detail = text[text.find("(") + 1 : text.rfind(")")] if "(" in text else reason
            raise RequestError(f"-f: bad capture filter {self.plan.source.capture_filter!r}: {detail}")
        if "permission" in text.lower() or "not permitted" in text.lower():
            raise SourceError(
                f"no permission to capture on {interface}: run as root, or join the group that may "
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
            raise RequestError(f"dumpcap refused: {reason}")
        raise SourceError(f"cannot capture on {interface}: {reason}")

    def judge(self) -> tuple[bool, list[str]]:
        """Whether the source was read to its end, and what there is to say of it."""
        status, helper_errors = self.status, self.helper_errors
        warnings: list[str] = []
        complete = True
        died = self._died()
        # Where a helper died, the end that tshark found is no fault of the file.
        complaints = [text for text in self._complaints() if not (died and "cut short" in text)]
        for text in [*complaints, *(line.removeprefix("mergecap: ") for line in helper_errors)]:
            if "cut short" in text and not (self.interrupted or self.too_late):
                rest = "; of the other files what is later is not: --per-file counts it" if self.opened.helpers else ""
                warnings.append(f"{text.rstrip('.')}: what was read before the cut is counted{rest}")
                complete = False
            elif self.interrupted or self.too_late:
                continue
            elif "corrupt" in text or "damaged" in text or "malformed" in text:
                warnings.append(text)
                complete = False
        few, said = self._judge_drops()
        complete, warnings = complete and few, warnings + said
        if self.interrupted:
            if not self.plan.source.live:
                warnings.append("interrupted: only a part of the source was read")
            troubles = self.opened.problems() + [f"{how}: what came before is counted" for how in died]
            return complete and self.plan.source.live and not troubles, warnings + troubles
        if self.too_late:
            seconds = f"{self.plan.source.timeout:g} s"
            warnings.append(f"stopped after {seconds} (--timeout): what was read by then is counted")
            return False, warnings
        if status != 0 and complete:
            warnings += complaints or ([] if died else [f"tshark ended with status {status}"])
            complete = False
        # mergecap's own status only says again what was said of a file.
        new = [how for how in died if complete or " was killed " in how]
        troubles = self.opened.problems() + [f"{how}: what came before is counted" for how in new]
        if complete and not troubles:
            troubles = [reason_of([line]) for line in helper_errors if line.startswith("dumpcap: ")][:1]
        if troubles:
            warnings += troubles
            complete = False
        return complete, warnings

    def _died(self) -> list[str]:
        """The helpers that did not end well, and what they said of it."""
        died = []
        for helper in self.opened.helpers:
            if helper.died and not self._left_early(helper.process.returncode):
                reason = reason_of(helper.said)
                died.append(f"{helper.died}: {reason}" if reason else helper.died)
        return died

    def _left_early(self, status: int) -> bool:
        """Whether a helper failed only since tshark had read as many packets as -c asked for."""
        return status == -signal.SIGPIPE and self.plan.source.packets is not None and not self.plan.source.live

    def _packets(self) -> int:
        return int(self.records.books[0]) if self.records.books else 0

    def drops(self) -> Drops:
        """What dumpcap's own last lines say of the packets; nothing for files."""
        drops = Drops()
        for line in self.helper_errors if self.plan.source.live else ():
            if line.startswith("Packets captured:"):
                drops.captured = int(line.split(":")[1])
            elif found := _DROPS.search(line):
                kernel, dumpcap, flushed, interface = map(int, found.groups())
                drops.kernel = (drops.kernel or 0) + kernel
                drops.dumpcap = (drops.dumpcap or 0) + dumpcap + flushed
                drops.interface = (drops.interface or 0) + interface
        return drops

    def _judge_drops(self) -> tuple[bool, list[str]]:
        """Whether few enough packets were dropped, and what there is to say of it."""
        drops, source = self.drops(), self.plan.source
        lost = drops.dropped or 0
        if not lost:
            return True, []
        seen = lost + (drops.captured or self._packets())
        share = 100 * lost / seen
        by = [
            f"{count:,} by {who}"
            for count, who in (
                (drops.kernel, "the kernel"),
                (drops.interface, "the interface"),
                (drops.dumpcap, "dumpcap"),
            )
            if count
        ]
        percent = f"{share:.1f}" if share >= 0.05 else "less than 0.1"
        advice = ["-f captures less"]
        if drops.kernel or drops.dumpcap:
            advice.append(f"-B {2 * (source.buffer_size or BUFFER)} buffers more")
        headers_only = all(r.task.layer == "transport" and not r.above_transport for r in self.plan.requests)
        if source.snaplen is None and headers_only:
            advice.append("-s 128 is enough for what is counted here")
        text = (
            f"{lost:,} of {seen:,} packets ({percent} %) were dropped, {' and '.join(by)}: they are in no table; "
            + ", ".join(advice)
        )
        return share <= source.max_drop, [text]


# As "Packets received/dropped on interface 'eth0': 20/3 (pcap:3/dumpcap:0/flushed:0/ps_ifdrop:0) (87.0%)".
_DROPS = re.compile(r"received/dropped on interface .*\(pcap:(\d+)/dumpcap:(\d+)/flushed:(\d+)/ps_ifdrop:(\d+)\)")


@dataclass
class Drops:
    """How many packets dumpcap captured, and how many were dropped by whom; None where it did not say."""

    captured: int | None = None
    kernel: int | None = None
    interface: int | None = None
    dumpcap: int | None = None

    @property
    def dropped(self) -> int | None:
        known = [count for count in (self.kernel, self.interface, self.dumpcap) if count is not None]
        return sum(known) if known else None


def reason_of(said: Sequence[str]) -> str:
    """The first telling line of what dumpcap or mergecap said; "" where none is."""
    for line in said:
        text = line.removeprefix("dumpcap: ").removeprefix("mergecap: ").strip()
        if text and not text.startswith(("Capturing on", "File:", "Packets")):
            return text
    return ""
