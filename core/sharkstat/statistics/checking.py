"""What a plugin registers, looked at once. Each fault is a ValueError that says where it is and how to mend it."""

from __future__ import annotations

import os

from sharkstat.engines.engine import Engine
from sharkstat.statistics.parameter import Parameter
from sharkstat.statistics.statistic import Statistic


def check_statistic(statistic: object) -> None:
    """ValueError where this is no statistic that can be asked for."""
    if isinstance(statistic, type):
        name = statistic.__name__
        raise ValueError(f"{_place(statistic)}{name} is a class: register({name}()), an object of it")
    if not isinstance(statistic, Statistic):
        raise ValueError(f"register({statistic!r:.40}): it is not a sharkstat.Statistic")
    owner = type(statistic)
    for attribute in ("name", "title"):
        if not isinstance(getattr(statistic, attribute), str):
            raise ValueError(f"{_place(owner)}{owner.__name__}: its {attribute} is not text")
    if not statistic.name or not statistic.title:
        raise ValueError(f"{_place(owner)}{owner.__name__} needs a name and a title")
    _check_attributes(statistic)
    _check_engines(statistic)
    for parameter in statistic.parameters:
        if not isinstance(parameter, Parameter):
            raise ValueError(
                f"{_place(type(statistic))}{statistic.name}: {parameter!r:.40} is not a sharkstat.Parameter"
            )


def _place(owner: type) -> str:
    """Where the class is written: "hosts.py, line 12: ", or nothing where that cannot be known."""
    import inspect

    try:
        file, (_, line) = inspect.getsourcefile(owner), inspect.getsourcelines(owner)
    except (TypeError, OSError):
        return ""
    return f"{os.path.basename(file)}, line {line}: " if file else ""  # noqa: PTH119 - no path to open


def _check_attributes(statistic: Statistic) -> None:
    """A misspelt attribute is one of nobody's: `filtr = "dns"` would count everything."""
    bases = [base for base in type(statistic).__mro__ if base.__module__.partition(".")[0] == "sharkstat"]
    known = {name for base in bases for name in (*vars(base), *getattr(base, "__annotations__", {}))}
    own = [base for base in type(statistic).__mro__ if base not in bases and base is not object]
    taken = {name for base in own for name in vars(base)} | {*vars(statistic)}
    for owner in own:
        for name, value in vars(owner).items():
            if name.startswith("_") or name in known or callable(value) or isinstance(value, (property, classmethod)):
                continue
            import difflib  # an attribute of the author's own

            near = difflib.get_close_matches(name, known - taken, n=1, cutoff=0.8)
            if near:
                raise ValueError(
                    f"{_place(type(statistic))}{statistic.name} has an attribute {name}: {near[0]} is meant?"
                )


def _check_engines(statistic: Statistic) -> None:
    """ValueError where it has no engines, or what it has are none."""
    engines = statistic.engines
    fix = "set engines = (sharkstat.Packets(MyCounter),), or use a Tap"
    if not engines:
        raise ValueError(f"{_place(type(statistic))}{statistic.name} has no engine: {fix}")
    if not isinstance(engines, (tuple, list)) or not all(isinstance(engine, Engine) for engine in engines):
        raise ValueError(f"{_place(type(statistic))}{statistic.name}: invalid engines {engines!r:.80}: {fix}")
    if len({engine.name for engine in engines}) < len(engines):
        raise ValueError(f"{_place(type(statistic))}{statistic.name} has two engines with the same name: remove one")
