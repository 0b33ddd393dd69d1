"""Published models, counted exactly, beside the figure that was printed."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PresetParameters:
    """Exact count of a preset with its components, and the published total with what it counts and where."""

    name: str
    total: int
    by_component: dict[str, int]
    published: str
    counts: str
    source: str


def preset_parameters(names: Iterable[str] | None = None) -> list[PresetParameters]:
    """Count presets (by default all) on the meta device, without memory for weights.

    Raises ValueError with the nearest names for an unknown preset.
    """
    from coursekit.measure import PUBLISHED, count_parameters
    from coursekit.models import build, preset, presets

    configs = {name: preset(name) for name in names or presets()}  # all names are tried before any is built
    counted = []
    for name, config in configs.items():
        count = count_parameters(build(config, device="meta"))
        printed = PUBLISHED[name]
        counted.append(
            PresetParameters(name, count.total, count.by_component, printed.total, printed.counts, printed.source)
        )
    return counted
