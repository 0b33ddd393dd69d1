"""Depths put together from the distinct blocks that a sharing plan names."""

from collections.abc import Callable

from torch import Tensor, nn

from coursekit.models.attention import Attention, FeedForward
from coursekit.models.config import TransformerConfig
from coursekit.models.packing import Packing
from coursekit.models.sharing import SharingPlan


class Projection(nn.Module):
    """Linear, dropout, LayerNorm: the way into and out of a sandwich of another width (Subformer's released code)."""

    def __init__(self, size_in: int, size_out: int, config: TransformerConfig) -> None:
        super().__init__()
        self.map = nn.Linear(size_in, size_out)
        self.dropout = nn.Dropout(config.dropout / 2)  # 0.05 there, beside 0.1 elsewhere
        self.norm = nn.LayerNorm(size_out, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(…, size_in) → (…, size_out)."""
        return self.norm(self.dropout(self.map(x)))


class CrossAttention(nn.Module):
    """Attention to the encoder at width H, entered and left through projections where a depth is of another width."""

    def __init__(self, config: TransformerConfig, size: int) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.enter = Projection(size, hidden, config) if size != hidden else None
        self.attention = Attention(hidden, config.num_heads, hidden // config.num_heads, config.dropout)
        self.leave = Projection(hidden, size, config) if size != hidden else None

    def forward(
        self, x: Tensor, source: Tensor, mask: Tensor | None = None, cache: dict[str, Tensor] | None = None
    ) -> Tensor:
        """x (B, T, size) asks source (B, S, H); returns (B, T, size)."""
        x = x if self.enter is None else self.enter(x)
        attended, _ = self.attention(x, mask, source=source, cache=cache)
        return attended if self.leave is None else self.leave(attended)


class Layer(nn.Module):
    """One depth: attention and FFN, each with a residual sum and a LayerNorm: after the sum (post-norm, as BERT), or
    with norm_first on what goes into the part (pre-norm), so that the sums run through all depths untouched.

    With `cross`, a decoder's depth: cross-attention stands between the two. `enter` maps the width of the depth
    before to this one's, where they differ. The parts may be the very same modules as in another depth: that is
    what sharing means here.
    """

    def __init__(
        self,
        attention: Attention,
        ffn: FeedForward,
        norms: list[nn.LayerNorm],
        dropout: float,
        norm_first: bool = False,
        cross: CrossAttention | None = None,
        enter: Projection | None = None,
    ) -> None:
        super().__init__()
        self.enter = enter
        self.attention, self.attention_norm = attention, norms[0]
        self.cross, self.cross_norm = cross, norms[1] if cross else None
        self.ffn, self.ffn_norm = ffn, norms[-1]
        self.dropout, self.norm_first = nn.Dropout(dropout), norm_first

    def forward(
        self,
        x: Tensor,
        mask: Tensor | Packing | None = None,
        wanted: frozenset[str] = frozenset(),
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
        caches: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """x (B, T, H), mask as in Attention; in a decoder source (B, S, H), its mask, and caches (own, cross).

        Returns (B, T, H) and the wanted states of the self-attention.
        """
        own, other = caches or (None, None)
        x = x if self.enter is None else self.enter(x)
        attended, states = self.attention(self._before(x, self.attention_norm), mask, wanted, cache=own)
        x = self._after(x, attended, self.attention_norm)
        if self.cross is not None:
            seen = self.cross(self._before(x, self.cross_norm), source, source_mask, other)
            x = self._after(x, seen, self.cross_norm)
        return self._after(x, self.ffn(self._before(x, self.ffn_norm)), self.ffn_norm), states

    def _before(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return norm(x) if self.norm_first else x

    def _after(self, x: Tensor, change: Tensor, norm: nn.LayerNorm) -> Tensor:
        x = x + self.dropout(change)
        return x if self.norm_first else norm(x)


def build_layers(config: TransformerConfig, plan: SharingPlan, cross: bool = False) -> nn.ModuleList:
    """One Layer per depth of the plan. Depths that share a number share the module, made at its first use."""
    made: dict[tuple[str, int], nn.Module] = {}

    def once(kind: str, number: int, make: Callable[..., nn.Module], *arguments: object) -> nn.Module:
        if (kind, number) not in made:
            made[kind, number] = make(*arguments)
        return made[kind, number]

    layers, before = [], config.hidden_size
    for depth, (attention, ffn) in enumerate(zip(plan.attention, plan.ffn, strict=True)):
        size, heads, intermediate = _shape_at(config, depth, len(plan))
        layers.append(
            Layer(
                once("attention", attention, Attention, size, heads, size // heads, config.dropout),
                once("ffn", ffn, FeedForward, size, intermediate, config.activation),
                [once("norm", number, nn.LayerNorm, size, config.layer_norm_eps) for number in plan.norm[depth]],
                config.dropout,
                config.norm_first,
                once("cross", attention, CrossAttention, config, size) if cross else None,
                Projection(before, size, config) if before != size else None,
            )
        )
        before = size
    return nn.ModuleList(layers)


def final_norm(config: TransformerConfig) -> nn.LayerNorm | None:
    """The LayerNorm after the last depth that pre-norm needs and post-norm has already."""
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.norm_first else None


def _shape_at(config: TransformerConfig, depth: int, depths: int) -> tuple[int, int, int]:
    """(width, heads, FFN width) of a depth: the inner ones between the first and the last, where they are set."""
    if config.inner_size is not None and 0 < depth < depths - 1:
        return config.inner_size, config.inner_heads, config.inner_intermediate_size
    return config.hidden_size, config.num_heads, config.intermediate_size


def initialise(module: nn.Module) -> None:
    """BERT's initialisation of one module: weights N(0, 0.02), biases 0, LayerNorm 1 and 0. For `Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
