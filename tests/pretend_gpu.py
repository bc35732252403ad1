"""A pretend GPU: tensors of ordinary values that say "cuda:0", keep the rules of one, and count what it is waited for.

    with pretend_gpu() as gpu:
        model.to("cuda")(pixels.to("cuda")).argmax(1).tolist()
    gpu.waits, gpu.kernels                    # Counter {(file of src, line): times}, and a number

Python sees the device cuda:0, torch's own code takes the same tensor for one of "meta" and leaves all work to
`PretendGPU.__torch_dispatch__`, which does it on the CPU.  What CUDA refuses is refused in torch's words: operations on
tensors of two devices (but for scalars and indices), `.numpy()`, generators of another device.  Autocast follows CUDA's
lists.  A wait is each time that the host must know a value or that values are copied; a kernel is each operator that
computes.  Both are what an eager run has, as near as operators tell.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import _lru_cache_wrapper
from types import SimpleNamespace
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only, tree_unflatten

from src.paths import ROOT

CUDA, META = torch.device("cuda:0"), torch.device("meta")

# operators that the host waits for: their result, its size, or a report of errors is read
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
WAITING |= {"bincount", "_linalg_eigh", "_linalg_svd", "_linalg_check_errors"}
FREE = {"empty", "empty_strided", "empty_like", "new_empty", "lift_fresh", "detach", "_fused_sdp_choice"}  # no kernel
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}  # take their indices from the CPU, too
ONE_DEVICE = {"cat", "stack", "mm", "bmm", "addmm", "baddbmm", "convolution", "gather", "index_select", "embedding"}

# what autocast computes in bfloat16 and in float32, by the names of Python's functions (torch.amp's lists for CUDA)
LOWER = {"conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear", "matmul", "__matmul__", "__rmatmul__", "mm", "mv"}
LOWER |= {"bmm", "addmm", "baddbmm", "addbmm", "einsum", "prelu", "scaled_dot_product_attention"}
FLOAT32 = {"softmax", "log_softmax", "layer_norm", "group_norm", "cross_entropy", "nll_loss", "mse_loss", "l1_loss"}
FLOAT32 |= {"binary_cross_entropy_with_logits", "cosine_similarity", "exp", "log", "log10", "pow", "__pow__", "rsqrt"}
FLOAT32 |= {"reciprocal", "sum", "prod", "cumsum", "norm", "logsumexp", "softplus", "cdist", "acos", "tan", "sinh"}


class OnGPU(Tensor):
    """A tensor on the pretend GPU; `value` holds its numbers."""

    @staticmethod
    def __new__(cls, value: Tensor) -> "OnGPU":
        how = dict(strides=value.stride(), storage_offset=value.storage_offset(), dtype=value.dtype, device=META)
        made = Tensor._make_wrapper_subclass(cls, value.shape, **how)
        made.value = value.resolve_conj().resolve_neg()  # C++ does not see these bits
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # `_Python` sees all calls
    device, is_cuda, is_cpu, is_meta = CUDA, True, False, False

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func}: a tensor of the pretend GPU was used after its end")

    def __repr__(self, **_) -> str:
        return f"OnGPU({self.value})"

    def __deepcopy__(self, memo: dict) -> "OnGPU":
        with torch.no_grad():
            copied = memo[id(self)] = self.clone().requires_grad_(self.requires_grad)
        copied.__dict__ |= {name: kept for name, kept in self.__dict__.items() if name != "value"}
        return copied

    def __reduce_ex__(self, protocol: int):
        return self.value.detach().__reduce_ex__(protocol)

    def numpy(self, **_):
        kind = f"can't convert {CUDA} device type tensor to numpy"
        raise TypeError(f"{kind}. Use Tensor.cpu() to copy the tensor to host memory first.")

    __array__ = numpy

    def untyped_storage(self):
        return self.value.untyped_storage()

    def data_ptr(self) -> int:
        return self.value.data_ptr()

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, new: "OnGPU") -> None:
        Tensor.data.__set__(self, new)
        self.value = new.value


class PretendGPU(TorchDispatchMode):
    """Runs every operator: those of the GPU on the CPU, with its rules, and counts in `waits` and `kernels`."""

    def __init__(self):
        super().__init__()
        self.waits, self.kernels = Counter(), 0
        self.random = torch.get_rng_state()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch.compile would be imported, and asked at each operator

    def wait(self) -> None:
        """Count a wait, by the innermost line of src that led to it; ("", 0) for one of others."""
        frame = sys._getframe(1)
        while frame and not frame.f_code.co_filename.startswith(f"{ROOT / 'src'}/"):
            frame = frame.f_back
        file = frame.f_code.co_filename.removeprefix(f"{ROOT}/") if frame else ""
        self.waits[file, frame.f_lineno if frame else 0] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        flat, spec = tree_flatten((args, kwargs))
        ours = [x for x in flat if isinstance(x, OnGPU)]
        target = kwargs.get("device")
        onto = target is not None and torch.device(target).type in ("cuda", "meta")
        if not ours and not onto:
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled():  # C++ then takes no operator apart on its way here
            with self:
                if (done := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return done
        if name == "_fused_sdp_choice":
            return 0  # attention by its formula
        if torch.Tag.inplace_view in func.tags:
            with torch._C._DisableTorchDispatch():  # of the tensor that C++ sees; then of its values, below
                func(*args, **kwargs)
        before = after = True  # whether what is copied is on the GPU; all else is
        if name == "copy_":
            before, after = isinstance(args[1], OnGPU), isinstance(args[0], OnGPU)
        elif name == "_to_copy":
            before, after = bool(ours), onto if target is not None else bool(ours)
        else:
            others = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, OnGPU)]
            self._check_devices(name, args, others, kwargs.get("generator"))
        pinned = kwargs.get("non_blocking") and any(getattr(x, "pinned", False) for x in flat)
        if (before != after and not pinned) or name in WAITING or self._index_waits(name, args):
            self.wait()
        self.kernels += not func.is_view and name not in FREE
        of = {id(x.value): x for x in ours}
        args, kwargs = tree_unflatten([x.value if isinstance(x, OnGPU) else x for x in flat], spec)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        with self._own_random(torch.Tag.nondeterministic_seeded in func.tags):
            out = func(*args, **kwargs)
        return tree_map_only(Tensor, lambda x: of[id(x)] if id(x) in of else OnGPU(x), out) if after else out

    def _check_devices(self, name: str, args: tuple, others: list[Tensor], generator: torch.Generator | None) -> None:
        indices = [x for x in args[1] if x is not None] if name in INDEXED else []
        allowed = [id(x) for x in indices]
        if any((x.ndim or name in ONE_DEVICE) and id(x) not in allowed for x in others):
            words = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
            raise RuntimeError(f"{words} (when checking arguments of {name})")
        if generator is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")

    @staticmethod
    def _index_waits(name: str, args: tuple) -> bool:
        """Whether an index is counted first (a mask) or copied (from the CPU); a single value is filled in unread."""
        if name not in INDEXED:
            return False
        indices = [x for x in args[1] if x is not None]
        fills = name != "index" and args[2].numel() == 1 and len(indices) == 1
        masks = any(x.dtype in (torch.bool, torch.uint8) for x in indices) and not fills
        return masks or any(not isinstance(x, OnGPU) for x in indices)

    @contextmanager
    def _own_random(self, draws: bool) -> Iterator[None]:
        """Random numbers from the GPU's own generator, which gives what a CPU's of the same seed would."""
        kept = torch.get_rng_state() if draws else None
        if draws:
            torch.set_rng_state(self.random)
        yield
        if draws:
            self.random = torch.get_rng_state()
            torch.set_rng_state(kept)

    def seed(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed).get_state()


class _Python(TorchFunctionMode):
    """Calls as Python makes them: "cuda" becomes what C++ takes it for; autocast; what C++ would do out of sight."""

    def __init__(self, gpu: PretendGPU):
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        first = args[0] if args else None
        if function is not torch.device and any(_is_cuda(x) for x in (*args, *kwargs.values())):
            args, kwargs = tree_map(lambda x: META if _is_cuda(x) else x, (args, kwargs))
        if name == "cuda":
            return first.to(META)
        if name == "pin_memory":
            copied = first.clone()
            copied.pinned = True
            return copied
        if name in ("tensor", "as_tensor", "asarray") and kwargs.get("device") == META:
            return function(*args, **kwargs | {"device": None}).to(META)  # C++ would leave the values out
        if isinstance(first, OnGPU):
            if name == "tolist":
                return first.cpu().tolist()
            if name == "new_tensor":
                return torch.tensor(*args[1:], dtype=kwargs.get("dtype", first.dtype)).to(META)
            if function is F.one_hot and not kwargs.get("num_classes", len(args) > 1):
                return F.one_hot(first, int(first.max()) + 1)
            if name in ("__getitem__", "__setitem__"):
                args = (first, _with_tensors(args[1]), *args[2:])
        if torch.is_autocast_enabled("cuda") and (name in LOWER or name in FLOAT32):
            args, kwargs = tree_map_only(OnGPU, lambda x: _cast(x, name in LOWER), (args, kwargs))
        return function(*args, **kwargs)


def _is_cuda(x: object) -> bool:
    return (isinstance(x, torch.device) and x.type == "cuda") or (isinstance(x, str) and x.partition(":")[0] == "cuda")


def _cast(x: OnGPU, lower: bool) -> Tensor:
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return x
    return x.to(torch.get_autocast_dtype("cuda") if lower else torch.float32)


def _with_tensors(index: object) -> object:
    """An index with its lists as tensors: C++ would make them on "meta", where they hold nothing."""
    if isinstance(index, tuple):
        return tuple(map(_with_tensors, index))
    return torch.tensor(index) if isinstance(index, list) else index


class Event:
    """A mark in the stream, with the host's clock."""

    def __init__(self, enable_timing: bool = False):
        self.at = None

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        assert self.at is not None, "this event was never recorded"

    def elapsed_time(self, other: "Event") -> float:
        return 1e3 * (other.at - self.at)


def _cuda(gpu: PretendGPU) -> dict:
    """What torch.cuda is to say, by name."""
    card = SimpleNamespace(name="Pretend", total_memory=2**34, multi_processor_count=1, uuid="0", major=9, minor=0)
    says = dict(is_available=True, device_count=1, current_device=0, is_current_stream_capturing=False)
    says |= dict(get_device_name="Pretend", get_device_properties=card, get_device_capability=(9, 0))
    says |= dict(_lazy_init=None, is_bf16_supported=True, empty_cache=None, mem_get_info=(2**33, 2**34))
    says |= dict(memory_allocated=0, max_memory_allocated=0, reset_peak_memory_stats=None)
    does = {name: lambda *_, answer=answer, **__: answer for name, answer in says.items()}
    does |= dict(synchronize=lambda *_: gpu.wait(), Event=Event, manual_seed_all=gpu.seed, manual_seed=gpu.seed)
    does |= dict(get_rng_state=lambda *_: gpu.random.clone())
    return does | dict(set_rng_state=lambda state, *_: setattr(gpu, "random", state.clone()))


@contextmanager
def pretend_gpu() -> Iterator[PretendGPU]:
    """A machine with a GPU for the block."""
    gpu = PretendGPU()
    only_lifts = torch._C._only_lift_cpu_tensors()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **_cuda(gpu)))
        stream = SimpleNamespace(is_capturing=lambda: False)
        stack.enter_context(mock.patch("torch.accelerator.current_stream", lambda *_: stream))  # optimisers ask it
        stack.callback(torch._C._set_only_lift_cpu_tensors, only_lifts)
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=…) is then a copy, as it is for a GPU
        stack.callback(_forget)
        stack.enter_context(gpu)
        stack.enter_context(_Python(gpu))
        yield gpu


def _forget() -> None:
    """Empty the caches of src, whose tensors on the GPU end with it."""
    for module in [module for name, module in sys.modules.items() if name.startswith("src.")]:
        for kept in vars(module).values():
            if isinstance(kept, _lru_cache_wrapper):
                kept.cache_clear()
