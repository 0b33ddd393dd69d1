"""Checked tasks of unit 06: codes and scales, packing, integer products, gradients, SmoothQuant, GPTQ, bytes."""

from collections.abc import Callable

from coursekit.course.tasks import Task
from coursekit.course.tasks import checks_06_codes as codes
from coursekit.course.tasks import checks_06_methods as methods


def _unpack() -> Callable:
    from coursekit.compress.quantization import unpack_int4

    return unpack_int4


def _quantize_rows() -> Callable:
    from coursekit.compress.quantization import quantize

    def rows(weight, bits):
        quantized = quantize(weight, bits=bits, axis=0)
        return quantized.codes, quantized.scale

    return rows


def _smooth() -> Callable:
    from coursekit.compress.quantization import smooth_scales

    return smooth_scales


TASKS = (
    Task(
        id="06.1",
        title="Scale and zero point",
        minutes=6,
        difficulty=2,
        importance=5,
        points=2,
        signature="scale_and_zero(low, high, bits)",
        hints=(
            "First make sure that 0 lies in the range; then spread the codes evenly over it.",
            "From the least to the most code there are 2^bits - 1 steps. The zero point is the code that stands for 0.",
            "The least code stands for low, so 0 has the code least - low / scale, rounded to a whole number.",
        ),
        check=codes.check_scale,
        stand_in=lambda: codes.scale_and_zero,
    ),
    Task(
        id="06.2",
        title="Quantize each row",
        minutes=6,
        difficulty=2,
        importance=5,
        points=2,
        signature="quantize_rows(weight, bits)",
        hints=(
            "One scale for each output row: from its largest absolute value.",
            "`amax(1, keepdim=True)` has shape (out, 1) and divides row by row. The largest code is 2^(bits-1) - 1.",
            "Give rows of zeros scale 1; then `(weight / scale).round()` as int8.",
        ),
        check=codes.check_rows,
        stand_in=_quantize_rows,
    ),
    Task(
        id="06.3",
        title="Two codes from one byte",
        minutes=8,
        difficulty=3,
        importance=3,
        points=2,
        signature="unpack(packed, count)",
        hints=(
            "Take the two halves of a byte apart with `& 15` and `>> 4`; the low half comes first.",
            "A half is 0 to 15. In two's complement of four bits, 8 to 15 stand for -8 to -1.",
            "Stack low and high halves along a new last axis, flatten, cut to count, subtract 16 where above 7.",
        ),
        check=codes.check_unpack,
        stand_in=_unpack,
    ),
    Task(
        id="06.4",
        title="A product of integers",
        minutes=8,
        difficulty=3,
        importance=5,
        points=3,
        signature="integer_linear(x, x_scale, x_zero, w, w_scale, bias)",
        hints=(
            "A real input is x_scale times (code minus zero point), a real weight w_scale times its code.",
            "Both scales can be taken out of the sum. What is left is a product of integers; widen them first.",
            "`(x.int() - x_zero) @ w.int().T`, times x_scale, times the (out, 1) scales turned to one row, plus bias.",
        ),
        check=codes.check_product,
        stand_in=lambda: codes.integer_linear,
    ),
    Task(
        id="06.5",
        title="The straight-through gradient",
        minutes=6,
        difficulty=2,
        importance=4,
        points=2,
        signature="fake_quantize_gradient(x, incoming, scale, zero_point, bits)",
        hints=(
            "The backward pass takes rounding for the identity, but not clamping.",
            "Compute the code before it is clamped: does it lie from -2^(bits-1) to 2^(bits-1) - 1?",
            "The incoming gradient where it does, 0 where it does not. Dividing by the scale and multiplying cancel.",
        ),
        check=methods.check_gradient,
        stand_in=lambda: methods.gradient,
    ),
    Task(
        id="06.6",
        title="SmoothQuant's divisor",
        minutes=6,
        difficulty=2,
        importance=4,
        points=2,
        signature="smooth_divisor(largest, weight, alpha)",
        hints=(
            "One number for each input channel, from its largest input and the largest |weight| that reads it.",
            "`weight` is (out, in): the weights that read one channel are a column.",
            "largest ** alpha / read ** (1 - alpha); `torch.where` gives 1 to channels of which either is 0.",
        ),
        check=methods.check_divisor,
        stand_in=_smooth,
    ),
    Task(
        id="06.7",
        title="One column of GPTQ",
        minutes=10,
        difficulty=4,
        importance=4,
        points=3,
        signature="column_step(weight, column, scale, factor, most)",
        hints=(
            "Round the column, look at what was lost, and let the columns after it make up for that.",
            "Each row's loss, divided by the factor's diagonal entry, times the factor's row, is what to take off.",
            "error = (old - rounded) / factor[c, c]; result[:, c + 1:] -= error[:, None] * factor[c, c + 1:].",
        ),
        check=methods.check_column,
        stand_in=lambda: methods.column_step,
    ),
    Task(
        id="06.8",
        title="Bytes of a quantized model",
        minutes=8,
        difficulty=3,
        importance=4,
        points=3,
        signature="quantized_bytes(model, bits, group_size)",
        hints=(
            "Start from `stored_bytes(model)`. Each linear layer loses its weight's four bytes a number, gains codes.",
            "Codes of a layer take out·in·bits / 8 bytes. Each group of each row has a scale of four bytes.",
            "`model.modules()` lists a shared layer once; skip `model.classifier`. Without a group size, one per row.",
        ),
        check=codes.check_bytes,
        stand_in=lambda: lambda model, bits, group_size: codes.model_bytes(model, bits, group_size),
    ),
)
