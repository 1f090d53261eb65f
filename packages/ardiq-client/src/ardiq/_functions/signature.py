"""Checks calls against a function's signature: when a call is enqueued, and again when one fails on
the worker.

The signature of the registered callable decides. A decorator with `*args, **kwargs` accepts every
call, even if it sets `__wrapped__`: it may pass on different arguments than it receives. The
caches and the single dispatch of `functools` do not, so the functions behind them decide.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from types import FunctionType
from typing import Any

from ardiq._functions import implementations, without_cache
from ardiq.checks import did_you_mean

_VARARGS, _VARKEYWORDS = 0x04, 0x08  # of code.co_flags; `inspect` names them and loads slowly

_VERY_NEAR = 0.7
"""How similar a keyword must be to a parameter, from 0 to 1, to be taken for a misspelling of
it.
"""

MOST_FORMS = 256
"""The most keyword combinations to cache: a function with `**kwargs` accepts any number of them."""


class Signature:
    """The calls that `fn` accepts. If `fn` is None, the signature is unknown and every call fits.

    A purely positional call fits if the number of arguments is in `counts`. `known` caches the
    calls with keywords that were checked: the keywords, and the numbers of positional arguments
    that go with them.
    """

    __slots__ = (
        "_keyword_only",
        "_more_keywords",
        "_most",
        "_positional",
        "_positional_only",
        "_required",
        "_room",
        "_variants",
        "counts",
        "fn",
        "known",
    )

    def __init__(self, fn: Callable[..., Any] | None) -> None:
        if isinstance(fn, staticmethod):
            fn = fn.__func__
        self.fn = fn
        self._room = MOST_FORMS
        self.known: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._positional: tuple[str, ...] | None = None  # None until the first look-up
        called = without_cache(fn)
        self._variants = implementations(called)
        if fn is None:
            self._take_anything()
        elif isinstance(called, FunctionType) and "__signature__" not in called.__dict__ and self._variants is None:
            self._read_code(called)
        else:
            self.counts: Sequence[int] = ()  # the first call looks the parameters up

    def check(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise a TypeError that names the task if the call does not fit; otherwise cache that it
        does.
        """
        if (problem := self.problem(args, kwargs)) is not None:
            raise TypeError(f"the task {name!r} {problem}")
        if kwargs and self._room:
            self._room -= 1
            keywords = tuple(kwargs)
            self.known[keywords] = (*self.known.get(keywords, ()), len(args))

    def problem(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Return why the call does not fit, as the rest of a sentence about the task; None if it
        fits.
        """
        if self._variants is not None:
            return self._problem_of_all(self._variants.values(), args, kwargs)
        positional = self._look_up() if self._positional is None else self._positional
        given = len(args)
        if given > self._most:
            if self._most == 0:
                return f"takes no arguments by position, not {given}"
            return f"takes at most {self._most} argument{'s' * (self._most > 1)} by position, not {given}"
        by_position = positional[:given]
        for keyword in kwargs:
            if keyword in self._keyword_only:
                continue
            if keyword in positional[self._positional_only :]:
                if keyword in by_position:
                    return f"gets its argument {keyword!r} twice, by position and by keyword"
            elif not self._more_keywords:
                return self._unexpected(keyword)
        missing = [
            name
            for index, name in enumerate((*positional, *self._keyword_only))
            if name in self._required
            and name not in by_position
            and (name not in kwargs or index < self._positional_only)
        ]
        if missing:
            return f"needs its {'argument' if len(missing) == 1 else 'arguments'} {' and '.join(map(repr, missing))}"
        return None

    def check_inputs(self, name: str, count: int | None, kwargs: dict[str, Any]) -> None:
        """As `check`, for a call that gets so many positional arguments later; None means that the
        number is not known yet.
        """
        if self._variants is not None:
            return
        problem = self._input_problem(kwargs) if count is None else self.problem((None,) * count, kwargs)
        if problem is not None:
            raise TypeError(f"the task {name!r} {problem}")

    def _input_problem(self, kwargs: dict[str, Any]) -> str | None:
        """Return why no number of positional arguments fits."""
        positional = self._look_up() if self._positional is None else self._positional
        if self._most == 0:
            return "takes no arguments by position, so it cannot get the output of another job"
        by_keyword = positional[self._positional_only :]
        for keyword in kwargs:
            if keyword in positional[:1] and keyword in by_keyword:
                return f"gets its argument {keyword!r} twice, from the output of another job and by keyword"
            if keyword not in by_keyword and keyword not in self._keyword_only and not self._more_keywords:
                return self._unexpected(keyword)
        missing = [name for name in self._keyword_only if name in self._required and name not in kwargs]
        if missing:
            return f"needs its {'argument' if len(missing) == 1 else 'arguments'} {' and '.join(map(repr, missing))}"
        return None

    def _problem_of_all(
        self, variants: Iterable[Callable[..., Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str | None:
        """Return why no variant accepts the call.

        Which one runs is known only when the arguments have been decoded.
        """
        if not args:
            return "needs its first argument by position: the argument's type selects the function"
        problems = [Signature(variant).problem(args, kwargs) for variant in variants]
        return None if None in problems else problems[0]

    def _unexpected(self, keyword: str) -> str:
        positional = self._positional or ()
        if keyword in positional:
            return f"takes its argument {keyword!r} by position only"
        names = (*positional[self._positional_only :], *self._keyword_only)
        hint = did_you_mean(keyword, names, near=_VERY_NEAR) or _option_hint(keyword) or did_you_mean(keyword, names)
        return f"has no argument {keyword!r}{hint}"

    def _set(
        self,
        positional: tuple[str, ...],
        positional_only: int,
        keyword_only: tuple[str, ...],
        optional: Collection[str],
        *,
        more_positional: bool,
        more_keywords: bool,
    ) -> None:
        self._positional_only = positional_only
        self._keyword_only = keyword_only
        self._required = {name for name in (*positional, *keyword_only) if name not in optional}
        self._more_keywords = more_keywords
        self._positional = positional
        self._most = sys.maxsize - 1 if more_positional else len(positional)
        needs_keyword = not self._required.isdisjoint(keyword_only)
        fewest = sum(name in self._required for name in positional)
        counts = range(0) if needs_keyword else range(fewest, self._most + 1)
        self.counts = counts if len(counts) > 8 else tuple(counts)  # a short tuple is faster to look through

    def _take_anything(self) -> None:
        self._set((), 0, (), (), more_positional=True, more_keywords=True)

    def _read_code(self, fn: FunctionType) -> None:
        code = fn.__code__
        names, count = code.co_varnames, code.co_argcount
        optional = names[count - len(fn.__defaults__ or ()) : count] + tuple(fn.__kwdefaults__ or ())
        self._set(
            names[:count],
            code.co_posonlyargcount,
            names[count : count + code.co_kwonlyargcount],
            optional,
            more_positional=bool(code.co_flags & _VARARGS),
            more_keywords=bool(code.co_flags & _VARKEYWORDS),
        )

    def _look_up(self) -> tuple[str, ...]:
        from inspect import Parameter, signature

        assert self.fn is not None
        try:
            parameters = signature(without_cache(self.fn), follow_wrapped=False).parameters.values()
        except (TypeError, ValueError):  # a compiled function may have none
            self._take_anything()
            return ()
        by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        positional = tuple(one.name for one in parameters if one.kind in by_position)
        self._set(
            positional,
            sum(one.kind is Parameter.POSITIONAL_ONLY for one in parameters),
            tuple(one.name for one in parameters if one.kind is Parameter.KEYWORD_ONLY),
            {one.name for one in parameters if one.default is not Parameter.empty},
            more_positional=any(one.kind is Parameter.VAR_POSITIONAL for one in parameters),
            more_keywords=any(one.kind is Parameter.VAR_KEYWORD for one in parameters),
        )
        return positional


def _option_hint(keyword: str) -> str:
    """Return the end of an error message if `keyword` looks like an option of the enqueue, else an
    empty string.
    """
    from ardiq.dispatch import CALL_OPTIONS, SCHEDULE_OPTIONS

    if keyword in CALL_OPTIONS or keyword in SCHEDULE_OPTIONS:
        return f"; options go to options(), as in task.options({keyword}=...).enqueue(...)"
    hint = did_you_mean(keyword, CALL_OPTIONS, near=_VERY_NEAR)
    return f"{hint} Options go to options(), as in task.options(...).enqueue(...)" if hint else ""


UNKNOWN = Signature(None)
"""The signature of a task whose code is in another process."""
