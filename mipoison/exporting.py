"""Whether `torch.export` or another tracer is at work, in every supported version of torch."""

from __future__ import annotations

import torch


def exporting() -> bool:
    """`torch.compiler.is_exporting`, which in torch 2.11 is true under `torch.compile` as well; this flag is not."""
    flag: bool = torch.compiler._is_exporting_flag
    return flag


def eager() -> bool:
    """Whether operations are computed as they are called, by no tracer, mode or transform, in a few builtin calls."""
    if torch.compiler.is_compiling():
        return False
    return not (
        torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._is_tracing()
        or torch.compiler._is_exporting_flag
        or torch._ops._len_torch_dispatch_stack_pre_dispatch()
    )


def tracing() -> bool:
    """Whether `torch.jit.trace` or `make_fx` turns calls into a graph, and tensors into its constants."""
    if torch.compiler.is_dynamo_compiling():
        # (Also true of `is_tracing` in torch 2.11.)
        return False
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return True
    # What `torch.fx.experimental.proxy_tensor.get_proxy_mode` looks at; its module would import sympy.
    proxy = torch._C._TorchDispatchModeKey.PROXY
    modes = torch._C._get_dispatch_mode(proxy), torch._ops._get_dispatch_mode_pre_dispatch(proxy)
    return any(mode is not None for mode in modes)
