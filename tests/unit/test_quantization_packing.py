"""Codes in bytes: two or four to one; and ternary weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.compress.quantization import pack_int4, ternarize, unpack_int4
from coursekit.compress.quantization.packing import pack, packed_size, unpack


def test_int4_by_hand():
    """The first code in the low half: 1 and −8 make 0x81; an odd last code stands alone."""
    codes = torch.tensor([1, -8, 7, -1, 3], dtype=torch.int8)
    packed = pack_int4(codes)
    assert packed.dtype == torch.uint8
    assert packed.tolist() == [0x81, 0xF7, 0x03]
    assert torch.equal(unpack_int4(packed, 5), codes)


@settings(deadline=None, max_examples=40)
@given(st.data(), st.sampled_from([8, 7, 6, 5, 4, 3, 2]))
def test_round_trip(data, bits):
    """Every length, odd ones too, and every code, −8 too."""
    limit = 2 ** (bits - 1)
    codes = torch.tensor(data.draw(st.lists(st.integers(-limit, limit - 1), max_size=17)), dtype=torch.int8)
    packed = pack(codes, bits)
    assert packed.numel() == packed_size(len(codes), bits) == -(-len(codes) * bits // 8)
    assert torch.equal(unpack(packed, len(codes), bits), codes)


def test_three_bits_by_hand():
    """001 and 111 and 101, from the lowest bit up: 101 111 001 is 0b1_01111001, over two bytes."""
    packed = pack(torch.tensor([1, -1, -3], dtype=torch.int8), 3)
    assert packed.tolist() == [0b01111001, 0b1]
    assert unpack(packed, 3, 3).tolist() == [1, -1, -3]
    assert pack(torch.zeros(8, dtype=torch.int8), 3).numel() == 3


def test_all_int4_codes_and_shapes():
    """A matrix is packed row by row."""
    codes = torch.arange(-8, 8, dtype=torch.int8).view(4, 4)
    assert torch.equal(unpack_int4(pack_int4(codes), 16).view(4, 4), codes)
    assert torch.equal(pack_int4(codes.T), pack_int4(codes.T.contiguous()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack_int4(torch.tensor([8], dtype=torch.int8)), "from -8 to 7, got 8 to 8"),
        (lambda: pack_int4(torch.tensor([1])), "codes must be int8, got torch.int64"),
        (lambda: unpack_int4(torch.zeros(3, dtype=torch.uint8), 4), "4 codes of 4 bits take 2 bytes .* got 3"),
        (lambda: unpack_int4(torch.zeros(2, dtype=torch.int8), 4), "got 2 of torch.int8"),
    ],
)
def test_bad_input(call, message):
    """What does not fit is refused."""
    with pytest.raises(ValueError, match=message):
        call()


def test_ternary_by_hand():
    """mean|w| = 1, threshold 0.7: 0.7 itself is dropped; α is the mean of what is left."""
    weight = torch.tensor([[0.1, -1.0, 0.7, 2.2], [0.0, -2.0, 1.4, 0.6]])
    q = ternarize(weight)
    assert q.codes.tolist() == [[0, -1, 0, 1], [0, -1, 1, 0]]
    torch.testing.assert_close(q.scale, torch.tensor((1.0 + 2.2 + 2.0 + 1.4) / 4))
    rows = ternarize(weight, axis=0)
    torch.testing.assert_close(rows.scale, torch.tensor([[1.6], [1.7]]))
    torch.testing.assert_close(rows.dequantize()[0], torch.tensor([0.0, -1.6, 0.0, 1.6]))


def test_ternary_scale_is_the_best_for_its_codes():
    """α = mean of the kept |w| minimises the squared error; row-wise beats matrix-wise."""
    weight = torch.randn(6, 50) * torch.arange(1, 7)[:, None]
    q = ternarize(weight)

    def error(values):
        return float((weight - values).square().sum())

    for factor in (0.9, 1.1):
        assert error(q.dequantize()) < error(q.codes * q.scale * factor)
    assert error(ternarize(weight, axis=0).dequantize()) < error(q.dequantize())


def test_ternary_degenerate():
    """Zero rows stay zero, constant rows themselves; a vector may keep its only axis."""
    weight = torch.tensor([[0.0, 0.0], [3.0, -3.0]])
    assert torch.equal(ternarize(weight, axis=0).dequantize(), weight)
    assert torch.equal(ternarize(torch.zeros(3)).dequantize(), torch.zeros(3))
    assert torch.equal(ternarize(torch.tensor([2.0, 0.0, -1.0]), axis=0).dequantize(), torch.tensor([2.0, 0.0, -1.0]))
    for bad, message in ((torch.tensor([torch.nan]), "1 of 1"), (torch.ones(2, dtype=torch.int8), "torch.int8")):
        with pytest.raises(ValueError, match=message):
            ternarize(bad)
    with pytest.raises(ValueError, match="axis 1 does not exist"):
        ternarize(torch.ones(3), axis=1)
