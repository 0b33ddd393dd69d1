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
    """As `pack_int4` for `bits` 2 to 8: codes −2^(bits−1) … 2^(bits−1) − 1 as one stream of bits, lowest bits first.

    So 8 / bits codes share a byte where that is whole, and eight codes of 3 bits three bytes.
    """
    least = -(2 ** (bits - 1))
    if codes.dtype != torch.int8:
        raise ValueError(f"codes must be int8, got {codes.dtype}")
    if codes.numel() and not least <= int(codes.min()) <= int(codes.max()) < -least:
        raise ValueError(
            f"codes of {bits} bits lie from {least} to {-least - 1}, got {int(codes.min())} to {int(codes.max())}"
        )
    per_word = 8 // bits if 8 % bits == 0 else 8
    flat = torch.nn.functional.pad(codes.flatten(), (0, -codes.numel() % per_word))
    low = flat.view(torch.uint8) & (2**bits - 1)  # two's complement: −1 is all ones
    low = low if 8 % bits == 0 else low.long()
    words = torch.zeros_like(low[::per_word])
    for place in range(per_word):
        words |= low[place::per_word] << (bits * place)
    if 8 % bits == 0:
        return words
    size = packed_size(codes.numel(), bits)
    return torch.stack([words >> (8 * byte) & 255 for byte in range(bits)], -1).flatten()[:size].to(torch.uint8)


def unpack(packed: Tensor, count: int, bits: int) -> Tensor:
    """Inverse of `pack`: the `count` codes, int8 and flat."""
    if packed.dtype != torch.uint8 or packed_size(count, bits) != packed.numel():
        raise ValueError(
            f"{count} codes of {bits} bits take {packed_size(count, bits)} bytes (uint8), "
            f"got {packed.numel()} of {packed.dtype}"
        )
    if bits == 8:
        return packed.flatten().view(torch.int8)
    # Up to the top of the word, and down again: an arithmetic shift brings the sign along.
    if 8 % bits == 0:
        bytes_ = packed.flatten()
        places = [(bytes_ << (8 - bits * (place + 1))).view(torch.int8) >> (8 - bits) for place in range(8 // bits)]
    else:
        words = _words(packed.flatten(), bits)
        places = [((words << (64 - bits * (place + 1))) >> (64 - bits)).to(torch.int8) for place in range(8)]
    return torch.stack(places, -1).flatten()[:count]


def _words(packed: Tensor, bits: int) -> Tensor:
    """Every `bits` bytes, which hold eight codes, as one int64."""
    padded = torch.nn.functional.pad(packed, (0, -packed.numel() % bits)).view(-1, bits).long()
    return sum(padded[:, byte] << (8 * byte) for byte in range(bits))


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return -(-count * bits // 8)
