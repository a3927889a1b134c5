"""The compiled kernels. Arrays are passed as addresses (0 for none), ``rows`` × ``classes``."""

from collections.abc import Sequence

def project(
    z: int,
    center: int,
    label: int,
    out: int,
    status: int,
    rows: int,
    classes: int,
    dtype: int,
    epsilon: float,
    norm: int,
    margin: float,
    shrink: bool,
    threads: int,
    /,
) -> None: ...
def step(
    q: int,
    g: int,
    center: int,
    label: int,
    out: int,
    status: int,
    rows: int,
    classes: int,
    dtype: int,
    alpha: float,
    epsilon: float,
    norm: int,
    margin: float,
    shrink: bool,
    threads: int,
    /,
) -> None: ...
def move(
    p: int,
    target: int,
    out: int,
    status: int,
    rows: int,
    classes: int,
    dtype: int,
    epsilon: float,
    norm: int,
    style: int,
    threads: int,
    /,
) -> None: ...
def flip(
    p: int,
    targets: int,
    out: int,
    labels: int,
    status: int,
    rows: int,
    classes: int,
    dtype: int,
    rate: float,
    key: Sequence[int],
    style: int,
    threads: int,
    /,
) -> None: ...
def row_bits(
    p: int,
    out: int,
    rows: int,
    classes: int,
    dtype: int,
    key: Sequence[int],
    draw: int,
    grid: float,
    words: int,
    threads: int,
    /,
) -> None: ...
def instruction_set() -> str: ...
def instruction_sets() -> list[str]: ...
def use_instruction_set(name: str, /) -> None: ...
def register_operators(torch_module: str, /) -> None: ...
