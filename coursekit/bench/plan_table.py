"""A plan as rows of text."""

from coursekit.bench.plan import Check, Plan
from coursekit.measure import format_seconds

PLAN_COLUMNS = ("estimate", "value")
UNITS = ((86_400, "days"), (3_600, "hours"), (60, "minutes"))


def plan_rows(plan: Plan) -> list[tuple[str, str]]:
    """What a training takes, piece by piece."""
    memory, several = plan.memory, plan.devices > 1
    rows = [
        ("parameters trained", f"{plan.parameters:,}"),
        ("GFLOP per token, forward and backward", f"{plan.flops_per_token / 1e9:,.3f}"),
        ("FLOP in all", f"{plan.flops:.2e}"),
        ("GFLOP/s of a device", f"{plan.throughput.flops_per_second / 1e9:,.1f}"),
        ("tokens per second", f"{plan.tokens_per_second:,.0f}"),
        ("time", _duration(plan.seconds)),
        ("device-hours", f"{plan.device_hours:,.1f}"),
    ]
    if several:
        rows.insert(5, ("of the devices' throughput left", f"{plan.efficiency:.0%}"))
    if plan.cost is not None:
        rows.append(("cost", f"{plan.cost:,.2f}"))
    for part in ("weights", "gradients", "optimizer", "activations", "total"):
        rows.append((f"GB on a device, {part}", f"{getattr(memory, part) / 1e9:.2f}"))
    if several:
        rows.append(("GB on a device, sharded by FSDP", f"{memory.sharded(plan.devices) / 1e9:.2f}"))
    return rows


def check_line(check: Check) -> str:
    """The plan beside the real run."""
    return (
        f"checked: a step of the whole model took {format_seconds(check.seconds)}, planned "
        f"{format_seconds(check.planned_seconds)} (ratio {check.ratio:.2f}); its peak above the weights was "
        f"{check.bytes / 1e6:,.0f} MB, planned {check.planned_bytes / 1e6:,.0f} MB (ratio {check.bytes_ratio:.2f})"
    )


def _duration(seconds: float) -> str:
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return format_seconds(seconds)
