"""Codes below eight bits, several to a byte: what makes them small on disk."""

import torch
from torch import Tensor


def pack_int4(codes: Tensor) -> Tensor:
    """Codes −8 … 7 (int8, any shape, read row by row), two to a byte: uint8 of length ⌈n/2⌉, the first in the low half.

    Raises ValueError for another dtype or a code outside the range.
    """
    return pack(codes, 4)


def unpack_int4(packed: Tensor, count: int) -> Tensor:
    """The `count` codes (int8) that `pack_int4` packed. Raises ValueError unless they fill exactly these bytes."""
    return unpack(packed, count, 4)


def pack(codes: Tensor, bits: int) -> Tensor:
    """As `pack_int4` for `bits` 8, 4 or 2: codes −2^(bits−1) … 2^(bits−1) − 1, 8 / bits to a byte."""
    least = -(2 ** (bits - 1))
    if codes.dtype != torch.int8:
        raise ValueError(f"codes must be int8, got {codes.dtype}")
    if codes.numel() and not least <= int(codes.min()) <= int(codes.max()) < -least:
        raise ValueError(
            f"codes of {bits} bits lie from {least} to {-least - 1}, got {int(codes.min())} to {int(codes.max())}"
        )
    per_byte = 8 // bits
    flat = torch.nn.functional.pad(codes.flatten(), (0, -codes.numel() % per_byte))
    low = flat.view(torch.uint8) & (2**bits - 1)  # two's complement: −1 is all ones
    packed = torch.zeros_like(low[::per_byte])
    for place in range(per_byte):
        packed |= low[place::per_byte] << (bits * place)
    return packed


def unpack(packed: Tensor, count: int, bits: int) -> Tensor:
    """Inverse of `pack`: the `count` codes, int8 and flat."""
    per_byte = 8 // bits
    if packed.dtype != torch.uint8 or packed_size(count, bits) != packed.numel():
        raise ValueError(
            f"{count} codes of {bits} bits take {packed_size(count, bits)} bytes (uint8), "
            f"got {packed.numel()} of {packed.dtype}"
        )
    # Up to the top of the byte, and down again: an arithmetic shift brings the sign along.
    places = [
        (packed.flatten() << (8 - bits * (place + 1))).view(torch.int8) >> (8 - bits) for place in range(per_byte)
    ]
    return torch.stack(places, -1).flatten()[:count]


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return -(-count * bits // 8)
