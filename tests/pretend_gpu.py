"""A GPU that is not there: tensors that say they lie on ``cuda``, and whose numbers are computed on the CPU.

Unlike torch's ``FakeTensorMode`` it has real numbers, so that what depends on data needs no stand-in, and it counts
what a GPU would have to be waited for. Kernels are the CPU's; which tensors may meet, and what autocast makes of them,
is the GPU's.
"""

import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
NOWHERE = torch.device("meta")
aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten._linalg_check_errors.default}
"""Answers on the host, or of a size that only the numbers tell."""
MASKED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
"""Wait where an index is a mask, whose positions are counted; an index may lie on the CPU."""
GRADIENTS = {Tensor.backward, torch.autograd.backward, torch.autograd.grad}
MIXED_PRECISION = {
    "torch.cuda.amp.common.amp_definitely_not_available": False,
    "torch.cuda.is_bf16_supported": True,
}
DRIVER = MIXED_PRECISION | {
    "torch.cuda._lazy_init": None,
    "torch.cuda.device_count": 1,
    "torch.cuda.get_device_capability": (7, 0),
    "torch.cuda.manual_seed_all": None,
    "torch.cuda.set_device": None,
    "pytorch_lightning.accelerators.cuda._clear_cuda_memory": None,
}
"""What asks the driver, and what it answers."""


class OnGpu(Tensor):
    """A tensor of the pretended GPU; ``host`` is the one of the CPU that has its numbers."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> "OnGpu":
        shape = torch.empty_strided(host.size(), host.stride(), dtype=host.dtype, device=NOWHERE)
        made = Tensor._make_subclass(cls, shape, False, dispatch_device=True, device_for_backend_keys=GPU)
        made.host = host.detach()
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: GPU)
    is_cuda = True

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return GPU
        raise AssertionError(f"{func} on a tensor of the GPU when there is none any more")

    def tolist(self) -> Any:
        """As of a GPU's tensor."""
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: int) -> Any:
        """In files as a tensor of the CPU."""
        return self.host.__reduce_ex__(protocol)

    def untyped_storage(self) -> torch.UntypedStorage:
        """Of as many bytes."""
        return self.host.untyped_storage()

    def __repr__(self, **options: Any) -> str:
        return f"OnGpu({self.host!r})"


class Calls(TorchFunctionMode):
    """Notices where Python calls torch."""

    def __init__(self, gpu: "PretendGpu") -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.gpu.fresh.clear()
        before, self.gpu.autograd = self.gpu.autograd, self.gpu.autograd or func in GRADIENTS
        try:
            result = func(*args, **(kwargs or {}))
            if func is Tensor.requires_grad_ and isinstance(result, OnGpu) and result.requires_grad:
                self.gpu.autograd = True  # a new parameter
                self.gpu.held.append(torch.autograd.graph.get_gradient_edge(result))
            return result
        finally:
            self.gpu.autograd = before


class PretendGpu(TorchDispatchMode):
    """Computes what is asked of the GPU on the CPU.

    Attributes:
        waits: where the host waited for the GPU, one entry each time: the operation, and the line of this project or
            of a package that called it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[str, str]] = []
        self.fresh: set[int] = set()
        self.autograd = False
        self.pinned: list[Tensor] = []
        self.held: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            # Autocast asks for the device of what a call is given. Autograd asks for that of what the call makes, and
            # would then look for the GPU's streams.
            if self.autograd:
                return NOWHERE
            if id(args[0]) in self.fresh:
                self.fresh.remove(id(args[0]))
                return NOWHERE
            return GPU
        if func in (aten._pin_memory.default, aten.pin_memory.default):
            self.pinned.append(args[0].clone())
            return self.pinned[-1]
        if func is aten.is_pinned.default:
            return self._is_pinned(args[0])
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # in inference mode it has not been taken apart yet
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        wanted = GPU if self.autograd and kwargs.get("device") == NOWHERE else kwargs.get("device")
        device = torch.device(wanted) if wanted is not None else common_device(func, args, tensors)
        if self._waits(func, args, kwargs, device.type == GPU.type):
            self.waits.append((str(func), place()))
        if wanted is not None and device.type == GPU.type:
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)
        given = {id(x.host): x for x in tensors if isinstance(x, OnGpu)}
        args, kwargs = tree_map_only(OnGpu, lambda x: x.host, (args, kwargs))
        if device.type != GPU.type:
            return func(*args, **kwargs)
        with torch.inference_mode(False):  # a view of a weight is none of an inference
            result = func(*args, **kwargs)
            result = tree_map_only(Tensor, lambda x: given[id(x)] if id(x) in given else OnGpu(x), result)
        if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
            self.fresh |= {id(x) for x in tree_leaves(result)}
        return result

    def thread(self) -> ThreadPoolExecutor:
        """A thread that has the GPU, too: modes hold for one thread."""

        def enter() -> None:
            Calls(self).__enter__()
            self.__enter__()

        return ThreadPoolExecutor(1, initializer=enter)

    def _waits(self, func: Any, args: Any, kwargs: dict[str, Any], to_gpu: bool) -> bool:
        """Whether the host has to wait: for an answer, a copy to it, or one from it that is not pinned."""
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[0] if func is aten._to_copy.default else args[1]
            free = to_gpu and (kwargs.get("non_blocking") or args[2:3] == (True,)) and self._is_pinned(source)
            return isinstance(source, OnGpu) != to_gpu and not free
        on_gpu = any(isinstance(x, OnGpu) for x in tree_leaves((args, kwargs)))
        if func in MASKED:
            return on_gpu and any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        return on_gpu and func in READS

    def _is_pinned(self, x: Tensor) -> bool:
        return any(x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr() for y in self.pinned)


def common_device(func: Any, args: Any, tensors: list[Tensor]) -> torch.device:
    """Where an operation runs; an AssertionError if its tensors lie on two devices and are more than single numbers."""
    if func in MASKED:  # the index may lie elsewhere
        tensors = [args[0], *args[2:3]]
    elif func is aten.copy_.default:
        tensors = tensors[:1]
    on_gpu = [isinstance(x, OnGpu) for x in tensors]
    if not any(on_gpu):
        return CPU
    wrong = [x for x in tensors if not isinstance(x, OnGpu) and x.dim() > 0]
    in_place = func._schema.is_mutable and not on_gpu[0]
    if func in (aten.cat.default, aten.stack.default):  # single numbers neither
        wrong = [x for x in tensors if not isinstance(x, OnGpu)]
    if wrong or in_place:
        raise AssertionError(f"{func}: tensors of two devices meet, {[x.device.type for x in tensors]}")
    return GPU


def place() -> str:
    """The innermost line outside of torch and of this file."""
    for frame in reversed(traceback.extract_stack()):
        if "/torch/" not in frame.filename and not frame.filename.endswith("pretend_gpu.py"):
            return f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno} {frame.line}"
    return "?"


@contextmanager
def answers(given: dict[str, Any]) -> Iterator[None]:
    """Within, functions of these names give these answers."""
    with ExitStack() as stack:
        for name, answer in given.items():
            stack.enter_context(patch(name, return_value=answer))
        yield


@contextmanager
def pretend_gpu() -> Iterator[PretendGpu]:
    """Within, ``cuda`` may be asked for."""
    gpu = PretendGpu()
    torch._C._ensureCUDADeviceGuardSet()
    lifts = torch._C._only_lift_cpu_tensors()
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        stack.enter_context(answers(DRIVER))
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="cuda") is a copy that is seen
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(Calls(gpu))
        stack.enter_context(gpu)
        yield gpu
