"""A command for every method of the registry, its flags from the options class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from napari_tiltalign.cli.options import flags_annotation
from napari_tiltalign.methods.base import Method, methods, uses_gpu

_GROUP = Group("Method", sort_key=5)


def add_method_commands(app: App, arguments: Sequence[str], command: Callable[..., int]) -> None:
    """Add a command for every method of the registry, or only for the one that the arguments name.

    Parameters
    ----------
    app
        Where to add them.
    arguments
        What was given on the command line.
    command
        What each of them does; its keyword `options` takes the options of the method.
    """
    registry = methods()
    for name in [word for word in arguments if word in registry][:1] or registry:
        method = registry[name]
        device = "With --device cuda it computes on a GPU." if uses_gpu(method) else "--device changes nothing for it."
        told = f"{method.title}. {method.summary}\n\n{device}"
        app.command(_with_options_of(method, command), name=name, help=told)


def _with_options_of(method: Method, command: Callable[..., int]) -> Callable[..., int]:
    """Return the command with the flags of one method."""
    defaults = method.Options()

    @wraps(command)
    def of_method(*arguments: Any, **given: Any) -> int:
        return command(*arguments, **{"options": defaults, **given})

    flags: Any = flags_annotation(method.Options)
    asked = signature(command)
    options = asked.parameters["options"].replace(default=defaults)
    of_method.__annotations__ = {**command.__annotations__, "options": Annotated[flags, Parameter(group=_GROUP)]}
    vars(of_method)["__signature__"] = asked.replace(
        parameters=[options if one.name == "options" else one for one in asked.parameters.values()]
    )
    return of_method
