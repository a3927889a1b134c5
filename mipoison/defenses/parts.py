"""The modules that a function is made of, found by the names in its code."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from torch import nn

# Objects are looked into to this depth, and so many of them: what is made of more is no wrapper around a model.
_DEPTH: Final = 8
_MOST: Final = 10_000


def modules_of(model: Any) -> tuple[nn.Module, ...]:
    """The module that a model is, or those that a function or a callable object refers to.

    A function refers to what its code names: variables of its module and of functions around it, defaults, the
    attributes of the objects among these, and what functions and methods among them refer to. So do the arguments of
    `functools.partial`, and the contents of lists and dictionaries. Modules that are reached in another way, as by
    `getattr`, are not found.
    """
    found: dict[int, nn.Module] = {}
    seen: dict[int, Any] = {}
    level = [(model, frozenset[str]())]
    for _ in range(_DEPTH):
        deeper = []
        for part, names in level:
            # (Kept alive: a bound method that is gone leaves its id to another.)
            if id(part) in seen or len(seen) >= _MOST:
                continue
            seen[id(part)] = part
            if isinstance(part, nn.Module):
                found[id(part)] = part
            else:
                deeper += list(_parts(part, names))
        level = deeper
    return tuple(found.values())


def _parts(value: Any, names: frozenset[str]) -> Iterator[tuple[Any, frozenset[str]]]:
    """What a value refers to, each with the names of attributes that are used of it.

    Args:
        value: anything but a module of PyTorch.
        names: those that the code which refers to the value names.
    """
    if isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield part, names
    elif isinstance(value, MethodType):
        named = names | _names(value.__func__)
        yield value.__func__, named
        yield from _attributes(value.__self__, named)
    elif isinstance(value, FunctionType):
        named = names | _names(value)
        for part in _variables(value):
            yield part, named
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield part, names
    elif isinstance(value, Mapping):
        for part in value.values():
            yield part, names
    elif not isinstance(value, type | ModuleType | str | bytes | int | float):
        call = inspect.getattr_static(type(value), "__call__", None)
        yield from _attributes(value, names | _names(call))
        if isinstance(call, FunctionType):
            yield call, names


def _attributes(value: Any, names: frozenset[str]) -> Iterator[tuple[Any, frozenset[str]]]:
    """An object's attributes of these names; properties and methods are looked into and not called."""
    if isinstance(value, nn.Module):
        yield value, names
        return
    for name in names:
        part = inspect.getattr_static(value, name, None)
        if isinstance(part, property):
            part = part.fget
        if isinstance(part, FunctionType):
            yield MethodType(part, value), names
        elif inspect.ismemberdescriptor(part):  # one of `__slots__`
            yield getattr(value, name, None), names
        else:
            yield part, names


def _variables(function: FunctionType) -> Iterator[Any]:
    """The values that a function's variables have before it is called."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not bound yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for name in _names(function):
        if name in function.__globals__:
            yield function.__globals__[name]


def _names(function: Any) -> frozenset[str]:
    """The names of variables and attributes in a function's code and that of the functions within it."""
    return frozenset(_of_code(getattr(function, "__code__", None)))


def _of_code(code: Any) -> Iterator[str]:
    if isinstance(code, CodeType):
        yield from code.co_names
        for constant in code.co_consts:
            yield from _of_code(constant)
