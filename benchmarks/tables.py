"""Measurements as Markdown tables, each figure beside its target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import targets
from measurements import Measurement, find, values
from targets import Target

NO_FIGURE = "–"
# Most rows of a request that is timed as a call.
FEW = 32


class Judge:
    """Formats figures, compares them with their targets, and collects those that missed."""

    def __init__(self) -> None:
        self.met = 0
        self.missed: dict[str, list[str]] = {}

    def figure(
        self, value: float | None, target: Target | None = None, what: str = "", where: str = ""
    ) -> str:
        """A figure as text, followed by "met" or "missed" where it has a target."""
        if value is None:
            return NO_FIGURE
        if target is None:
            return number(value)
        verdict = target.judge(value)
        if verdict == "met":
            self.met += 1
        else:
            self.missed.setdefault(what, []).append(f"{number(value)} at {where} ({target})")
        return f"{number(value)} {verdict}"

    def summary(self) -> str:
        """How many figures met their targets, and which ones missed."""
        count = sum(map(len, self.missed.values()))
        if not self.met + count:
            return ""
        lines = [f"- {what}: {', '.join(where)}\n" for what, where in self.missed.items()]
        end = ". Missed:\n\n" if lines else ".\n"
        return f"{self.met} of {self.met + count} figures meet their target{end}{''.join(lines)}\n"


def number(value: float) -> str:
    """A number with three significant digits, without an exponent."""
    return integer(round(value)) if value >= 99.95 else f"{value:#.3g}"


def integer(value: int) -> str:
    """An integer in groups of three digits, as in 128 000."""
    return f"{value:,}".replace(",", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table without rows and columns that have no figure; empty text where no row is left."""
    told = [row for row in rows if any(cell != NO_FIGURE for cell in row[1:])]
    kept = [i for i in range(len(head)) if any(row[i] != NO_FIGURE for row in told)]
    lines = [f"| {' | '.join(row[i] for i in kept)} |\n" for row in (head, *told)]
    if not told:
        return ""
    return f"{lines[0]}|{'---|' * len(kept)}\n" + "".join(lines[1:])


def per_row(one: Measurement | None) -> float | None:
    """Nanoseconds a row."""
    return None if one is None else one.ours / one.n * 1e9


def steps(measurements: Sequence[Measurement], judge: Judge) -> str:
    """The first table: `step` in an l1 ball and without a ball, float32, one thread."""
    chosen = [one for one in measurements if one.operation == "step" and one.variant is None]
    rows = []
    for k in values([one for one in chosen if one.group == "throughput"], "k"):
        same = {"k": k, "group": "throughput", "dtype": "float32", "threads": 1}
        free = find((one for one in chosen if "add" in one.seconds), norm="none", **same)
        ball = find(chosen, norm="l1", **same)
        limit = targets.OVER_SOFTMAX.get(k)
        rows.append(
            (
                integer(k),
                NO_FIGURE if ball is None else f"{ball.epsilon:g}",
                judge.figure(per_row(ball)),
                judge.figure(ball and ball.ratio_to("softmax")),
                judge.figure(
                    ball and ball.ratio_to("step, no ball"),
                    targets.OVER_NO_BALL["l1"],
                    "l1 ball ÷ no ball",
                    f"K = {integer(k)}",
                ),
                judge.figure(per_row(free)),
                judge.figure(free and free.bandwidth / 1e9),
                judge.figure(
                    free and free.ratio_to("add"),
                    targets.OVER_ADD.get(k),
                    "no ball ÷ add",
                    f"K = {integer(k)}",
                ),
                judge.figure(
                    free and free.ratio_to("softmax"),
                    limit,
                    "no ball ÷ softmax",
                    f"K = {integer(k)}",
                ),
                NO_FIGURE if limit is None else str(limit),
                judge.figure(free and free.ratio_to("step, new output")),
            )
        )
    head = (
        "K",
        "l1: ε",
        "ns a row",
        "÷ softmax",
        f"÷ no ball, {targets.OVER_NO_BALL['l1']}",
        "no ball: ns a row",
        "GB/s",
        f"÷ add (K = 10: {targets.OVER_ADD[10]})",
        "÷ softmax",
        "target",
        "out= ÷ new output",
    )
    return table(head, rows)


def others(measurements: Sequence[Measurement], judge: Judge) -> str:
    """`step` in the other balls, on two threads, and against other algorithms."""
    rivals = ("sort", "sparsemax", "compiled newton", "newton", "reference", "jaxopt")
    chosen = [
        one
        for one in measurements
        if one.operation == "step" and one.variant is None and one.group == "throughput"
    ]
    rows = []
    for k in values(chosen, "k"):
        same = {"k": k, "dtype": "float32"}
        cells, where = [integer(k)], f"K = {integer(k)}"
        for norm in ("l2", "linf"):
            ball = find(chosen, norm=norm, threads=1, **same)
            ratio = ball and ball.ratio_to("step, no ball")
            limit = targets.OVER_NO_BALL[norm]
            cells.append(judge.figure(ratio, limit, f"{norm} ball ÷ no ball", where))
        for norm in ("none", "l1"):
            both = find(chosen, norm=norm, threads=2, **same)
            name = "no ball" if norm == "none" else norm
            ratio = both and both.ratio_to("step, one thread")
            limit = targets.TWO_THREADS if k >= targets.TWO_THREADS_FROM else None
            cells.append(judge.figure(ratio, limit, f"two threads ÷ one, {name}", where))
        for rival in rivals:
            raced = find((one for one in chosen if rival in one.seconds), **same)
            ratio = raced and raced.speedup_over(rival)
            limit = targets.UNDER_RIVAL.get(rival)
            cells.append(judge.figure(ratio, limit, f"{rival} ÷ step", where))
        rows.append(cells)
    head = (
        "K",
        f"l2 ÷ no ball, {targets.OVER_NO_BALL['l2']}",
        f"linf ÷ no ball, {targets.OVER_NO_BALL['linf']}",
        f"2 threads ÷ 1, {targets.TWO_THREADS} from K = {targets.TWO_THREADS_FROM}",
        "2 threads ÷ 1, l1 ball, same target",
        *(
            f"{rival} ÷ step"
            + (f", {targets.UNDER_RIVAL[rival]}" if rival in targets.UNDER_RIVAL else "")
            for rival in rivals
        ),
    )
    return table(head, rows)


def dtypes(measurements: Sequence[Measurement]) -> str:
    """`step` in the other dtypes, one thread."""
    chosen = [
        one
        for one in measurements
        if one.operation == "step" and one.group == "throughput" and one.dtype != "float32"
    ]
    return table(
        ("K", "dtype", "ball", "ns a row", "GB/s", "÷ add", "÷ softmax"),
        (
            (
                integer(one.k),
                one.dtype,
                "no ball" if one.norm == "none" else one.norm,
                number(per_row(one) or 0.0),
                number(one.bandwidth / 1e9),
                Judge().figure(one.ratio_to("add")),
                Judge().figure(one.ratio_to("softmax")),
            )
            for one in latest(chosen, ("k", "dtype", "norm"))
        ),
    )


def operations(measurements: Sequence[Measurement]) -> str:
    """The other operations, float32, one thread, new outputs."""
    chosen = [one for one in measurements if one.variant is not None]
    return table(
        ("K", "operation", "ns a row", "GB/s", "÷ add", "÷ softmax"),
        (
            (
                integer(one.k),
                one.variant,
                number(per_row(one) or 0.0),
                number(one.bandwidth / 1e9),
                Judge().figure(one.ratio_to("add")),
                Judge().figure(one.ratio_to("softmax")),
            )
            for one in latest(chosen, ("k", "variant"))
        ),
    )


def codebooks(measurements: Sequence[Measurement], judge: Judge) -> str:
    """`quantize` into a given tensor, float32, one thread."""
    chosen = [one for one in measurements if one.operation == "quantize"]
    rows = []
    for one in latest(chosen, ("k", "words")):
        where = f"K = {integer(one.k)}, {one.words} codewords a label"
        limit = targets.QUANTIZE_OVER_SOFTMAX.get(one.k)
        rows.append(
            (
                integer(one.k),
                str(one.words),
                number(per_row(one) or 0.0),
                judge.figure(one.ratio_to("add")),
                judge.figure(one.ratio_to("softmax"), limit, "quantize ÷ softmax", where),
                NO_FIGURE if limit is None else str(limit),
                judge.figure(
                    one.speedup_over("cdist"), targets.UNDER_CDIST, "cdist ÷ quantize", where
                ),
                judge.figure(one.ratio_to("quantize, new output")),
            )
        )
    head = (
        *("K", "codewords a label", "ns a row", "÷ add", "÷ softmax", "target"),
        f"cdist ÷ it, {targets.UNDER_CDIST}",
        "out= ÷ new output",
    )
    return table(head, rows)


def defenses(measurements: Sequence[Measurement]) -> str:
    """Whole answers of every objective: µs a request and a row, beside softmax and the plain scorer."""
    chosen = [one for one in measurements if one.operation == "defense"]
    rows = []
    for objective in values(chosen, "objective"):
        cells = [objective]
        for n in values(chosen, "n"):
            one = find(chosen, objective=objective, n=n)
            each = 1 if n <= FEW else n
            cells.append(NO_FIGURE if one is None else number(one.ours / each * 1e6))
        for n in (1, 1024):
            one = find(chosen, objective=objective, n=n)
            for rival in ("softmax", "plain scorer"):
                cells.append(Judge().figure(one and one.ratio_to(rival)))
        rows.append(cells)
    head = (
        "objective",
        *(f"N = {integer(n)}, µs a {'call' if n <= FEW else 'row'}" for n in values(chosen, "n")),
        *(
            f"N = {integer(n)} ÷ {rival}"
            for n in (1, 1024)
            for rival in ("softmax", "plain scorer")
        ),
    )
    return table(head, rows)


def latency(measurements: Sequence[Measurement], judge: Judge) -> str:
    """Microseconds a call on few rows, with a column for each contestant."""
    chosen = [one for one in measurements if one.group == "latency"]
    contestants = list(dict.fromkeys(name for one in chosen for name in one.seconds))
    rows = []
    for one in latest(chosen, ("k", "norm", "n", "dtype")):
        limit = None
        if one.norm == "none" and one.dtype == "float32":
            small = one.device == "cpu" and (one.n, one.k) == (1, 10)
            replayed = one.device != "cpu" and (one.n, one.k) == (32, 1000)
            limit = targets.CALL if small else targets.GRAPH_CALL if replayed else None
        cells = [integer(one.k), "no ball" if one.norm == "none" else one.norm, integer(one.n)]
        for i, name in enumerate(contestants):
            seconds = one.seconds.get(name)
            where = f"N = {one.n}, K = {one.k}"
            cells.append(
                judge.figure(
                    seconds and seconds * 1e6, limit if i == 0 else None, "one call, µs", where
                )
            )
        rows.append(cells)
    on_cpu = all(one.device == "cpu" for one in chosen)
    asked = (
        f"{targets.CALL} at N = 1, K = 10"
        if on_cpu
        else f"{targets.GRAPH_CALL} at N = 32, K = 1000"
    )
    first, *rest = contestants or [""]
    return table(("K", "ball", "N", f"{first}, µs ({asked}, no ball)", *rest), rows)


def on_gpu(measurements: Sequence[Measurement], judge: Judge) -> str:
    """Throughput on a GPU by K, dtype and norm, against add and softmax on the same rows."""
    chosen = [one for one in measurements if one.group == "throughput"]
    rows = []
    for one in latest(chosen, ("k", "dtype", "norm", "operation")):
        limit = None
        if one.operation == "step":
            limit = targets.over_add_on_gpu(one.k, one.dtype, one.norm)
        where = f"K = {integer(one.k)}, {one.dtype}"
        rows.append(
            (
                integer(one.k),
                one.operation,
                one.dtype,
                "no ball" if one.norm == "none" else one.norm,
                number(per_row(one) or 0.0),
                number(one.bandwidth / 1e12),
                judge.figure(one.ratio_to("add"), limit, "step ÷ add", where),
                NO_FIGURE if limit is None else str(limit),
                judge.figure(one.ratio_to("softmax")),
            )
        )
    head = (
        "K",
        "operation",
        "dtype",
        "ball",
        "ns a row",
        "TB/s",
        "÷ add",
        "target",
        "÷ softmax",
    )
    return table(head, rows)


def latest(measurements: Sequence[Measurement], by: tuple[str, ...]) -> list[Measurement]:
    """The last measurement of each combination of conditions, sorted by K."""
    last = {tuple(getattr(one, name) for name in by): one for one in measurements}
    return sorted(last.values(), key=lambda one: one.k)
