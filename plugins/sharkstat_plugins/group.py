"""group: packets by the values of any fields, and what is counted of them; `sharkstat group` asks for it."""

from __future__ import annotations

from collections.abc import Callable

from sharkstat import Declared, Group, RequestError, Statistic, hookimpl


class AnyGroup(Declared):
    """The statistic whose arguments are the declaration."""

    name = "group"
    title = "Groups of packets"
    usage = (
        "group[,by=FIELD][,every=DURATION][,tree=FIELD+FIELD][,count][,sum=FIELD][,min=FIELD][,max=FIELD]"
        "[,mean=FIELD][,distinct=FIELD][,seen][,FILTER]"
    )
    description = (
        "Packets by the values of any fields, and what is counted of them. by= takes one field, or several parted by / "
        "for the first that a packet has; :last or :all behind it say which value counts where there are several. "
        "A packet without the field is in a row of its own. Without a measure, packets are counted."
    )
    example = "by=ip.src,sum=frame.len"

    def asked(self, arguments: str) -> tuple[Group, str]:
        group = Group.parse(arguments)
        if not group.keys:
            raise RequestError(
                "group: nothing to group by: give by=FIELD, every=DURATION or tree=FIELD+FIELD (sharkstat show group)"
            )
        return group, ""


@hookimpl
def register_statistics(register: Callable[[Statistic], None]) -> None:
    register(AnyGroup())
