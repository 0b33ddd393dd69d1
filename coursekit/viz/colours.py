"""How well colours can be told apart: against the ground, and by eyes that lack a kind of cone."""

import numpy as np
from numpy.typing import NDArray

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
"""What of linear RGB is seen: Machado, Oliveira and Fernandes 2009, table 1, severity 1."""

_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def contrast(colour: str, ground: str = "#ffffff") -> float:
    """WCAG 2's contrast ratio of two colours "#rrggbb", 1 to 21; lines and marks need 3, text 4.5."""
    lights = sorted(float(LUMINANCE @ _linear(each)) + 0.05 for each in (colour, ground))
    return lights[1] / lights[0]


def ink(ground: str) -> str:
    """Black or white, whichever is easier to read on `ground` ("#rrggbb")."""
    return max(("#000000", "#ffffff"), key=lambda colour: contrast(colour, ground))


def distance(first: str, second: str, sight: str = "all cones") -> float:
    """How different two colours look to a `sight` of SIGHT: Euclidean in CIELAB (1976); 2 is just noticeable."""
    return float(np.linalg.norm(_lab(first, sight) - _lab(second, sight)))


def _linear(colour: str) -> NDArray[np.float64]:
    """Linear RGB (3,) of "#rrggbb". Raises ValueError for another notation."""
    try:
        values = np.frombuffer(bytes.fromhex(colour.removeprefix("#")), np.uint8) / 255
    except ValueError:
        values = np.empty(0)
    if not colour.startswith("#") or len(values) != 3:
        raise ValueError(f"expected a colour as #0072B2, got {colour!r}")
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(colour: str, sight: str) -> NDArray[np.float64]:
    """CIELAB (3,): L*, a*, b* of the colour as it is seen."""
    light = _XYZ @ np.clip(SIGHT[sight] @ _linear(colour), 0, 1) / _WHITE
    f = np.where(light > (6 / 29) ** 3, np.cbrt(light), light / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
