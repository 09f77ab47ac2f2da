"""group: packets by the values of any fields, and what is counted of them; `sharkstat group` asks for it."""

from __future__ import annotations

from collections.abc import Callable

from sharkstat import Declared, Group, Statistic, hookimpl


class AnyGroup(Declared):
    """The statistic whose arguments are the declaration."""

    name = "group"
    title = "Groups of packets"
    usage = (
        "group[,by=FIELD|EXPRESSION][,every=DURATION][,tree=FIELD+FIELD][,names=yes|no][,count][,sum=FIELD][,min=FIELD]"
        "[,max=FIELD][,mean=FIELD][,percentile=FIELD:50/95/99][,distinct=FIELD][,top=FIELD:10]"
        "[,histogram=FIELD:BOUND/BOUND][,seen][,ratio=COLUMN/COLUMN][,percent=COLUMN/COLUMN][,rate=COLUMN][,FILTER]"
    )
    description = (
        "Groups packets by any fields, and counts them or sums up other fields. by= takes a field, or alternatives "
        "separated by / (the first that a packet has); if a field occurs several times, :last or :all after it select "
        "the values to use. It also takes what is made of a field: ip.src/24 or subnet(ip.src, 24), lower(FIELD), "
        'regex(FIELD, "PATTERN"), segment(FIELD, NUMBER), template(FIELD), second_level(FIELD) or '
        "bucket(FIELD, BOUND, BOUND...); host and conversation group by both ends of a packet. "
        "Packets without the field are in a row of their own. Without a key, the table is one row, the total. "
        "By default, packets are counted. Beyond 100,000 rows, or max=NUMBER, the others are added up in one."
    )
    example = "by=ip.src,sum=frame.len"

    def asked(self, arguments: str) -> tuple[Group, str]:
        return Group.parse(arguments), ""


@hookimpl
def register_statistics(register: Callable[[Statistic], None]) -> None:
    register(AnyGroup())
