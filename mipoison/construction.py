"""Class methods that construct an object and refuse to be called on one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    constructor = classmethod
else:

    class constructor(classmethod):
        """A class method that refuses to be called on an object, whose settings it would ignore.

        Example:
            >>> import mipoison as mp
            >>> mp.LFP(rate=0.5, key=1).fit(outputs=None)
            Traceback (most recent call last):
            TypeError: expected LFP.fit(...) to be called on the class, got a call on an object: ...
        """

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            """The method of the class; on an object, a function that raises."""
            if instance is None:
                return super().__get__(None, owner)
            kind, name = type(instance).__name__, self.__func__.__name__

            @functools.wraps(self.__func__)
            def refused(*args: Any, **kwargs: Any) -> Any:
                raise TypeError(
                    f"expected {kind}.{name}(...) to be called on the class, got a call on an object: it makes another "
                    f"object and knows nothing of this one's settings; write {kind}.{name}(...) and give them to it"
                )

            return refused
