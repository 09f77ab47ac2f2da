"""dns,late: names whose answers took longer than a time that is asked for, or their domains."""

from collections.abc import Callable, Mapping
from typing import Any

import sharkstat


class LateAnswers(sharkstat.Declared):
    name = "dns,late"
    title = "Late DNS answers"
    description = "Which names took long to resolve?"
    parameters = (
        sharkstat.Parameter("over", "duration", "140us", "what is late"),
        sharkstat.Parameter("by", "text", "name", "what a row is", choices=("name", "domain")),
    )

    def group(self, parameters: Mapping[str, Any]) -> sharkstat.Group:
        tree = sharkstat.Tree("dns.qry.name:split.:reverse", name="domain")
        return sharkstat.Group(
            filter=f"dns.time > {parameters['over'] / 1e9:.9f}",
            keys=(sharkstat.Key("dns.qry.name", "name") if parameters["by"] == "name" else tree,),
            measures=(sharkstat.Count(name="answers"), sharkstat.Mean("dns.time", "mean_time")),
        )


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(LateAnswers())
