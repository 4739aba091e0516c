"""A mode in which whatever a GPU would make the host wait for is refused, though the tensors are on the host."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "item", "repeat_interleave")
UNKNOWN_SIZE = ("_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount", "randperm", "multinomial")


class NothingWaits(TorchDispatchMode):
    """Refuses the operations for which the host waits for a GPU, though the tensors are on the host.

    `sending`: arrays of the host may be sent to the device, which is done without waiting for their arrival.
    """

    def __init__(self, sending: bool = False) -> None:
        super().__init__()
        self._sending = sending

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in WAITING or name in UNKNOWN_SIZE:
            raise AssertionError(f"{func} waits for the device.")
        if name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            raise AssertionError(f"{func} by a mask waits for the device.")
        if name in ("lift_fresh", "lift_fresh_copy") and not self._sending:
            raise AssertionError("A tensor of numbers of the host is copied to the device.")
        if name == "where" and any(isinstance(arg, torch.Tensor) and arg.dim() == 0 for arg in args):
            raise AssertionError("`where` copies a number of the host to the device.")
        if name == "_to_copy" and "device" in kwargs and torch.device(kwargs["device"]) != args[0].device:
            raise AssertionError("A tensor is copied to another device.")
        return func(*args, **kwargs)
