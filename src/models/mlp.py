"""The bottleneck MLP of Bachmann, Anagnostidis & Hofmann 2023, "Scaling MLPs: A Tale of Inductive Bias"."""

from jaxtyping import Float
from torch import Tensor, nn


class _Bottleneck(nn.Module):
    def __init__(self, width: int, expansion: int):
        super().__init__()
        # indices 0 and 2 carry weights: the published checkpoints call them block.0 and block.2
        self.block = nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class BottleneckMLP(nn.Module):
    """`B_{blocks}-Wi_{width}`: a linear embedding, residual bottlenecks after a LayerNorm each, a linear head.

    side: height and width of the RGB image, flattened channel first.  Keys of the state dict are those of the
    published checkpoints: linear_in, blocks.{i}.block.{0,2}, layernorms.{i}, linear_out.
    """

    def __init__(self, *, blocks: int, width: int, n_classes: int, side: int, expansion: int = 4):
        super().__init__()
        self.linear_in = nn.Linear(3 * side * side, width)
        self.blocks = nn.ModuleList(_Bottleneck(width, expansion) for _ in range(blocks))
        self.layernorms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.linear_out = nn.Linear(width, n_classes)

    def forward(self, images: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n k"]:
        x = self.linear_in(images.flatten(1))  # n, width
        for norm, block in zip(self.layernorms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.linear_out(x)
