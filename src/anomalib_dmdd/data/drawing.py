"""Drawing of a steel flange on a conveyor belt, with or without a defect.

The part is a height field. Signed distances give its outline, and smooth steps of them give chamfers and grooves. The
gradient of the height gives the surface normals for the lighting. A defect changes outline, height or colour before the
lighting, so that its brightness does not reveal it.

Lengths are in pixels, colours and grey values in [0, 1]. Every map has the shape (256, 256) of the picture.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own abbreviation

SIZE = 256

OUTER, GROOVE, HUB, BORE = 92.0, 53.0, 44.0, 24.0  # radii of the flange
BOLTS, BOLT_CIRCLE, BOLT_HOLE = 6, 70.0, 9.0
HUB_HEIGHT, THICKNESS = 7.0, 9.0

STEEL = (0.80, 0.81, 0.84)
BELT = (0.20, 0.27, 0.26)
PAINT = (0.80, 0.42, 0.10)
RUST = (0.42, 0.24, 0.12)


@dataclass(frozen=True)
class Scene:
    """Pose, light and noise of one part on the belt.

    Args:
        shift: Centre of the part relative to the centre of the picture, (x, y) in pixels.
        angle: Rotation of the part in radians.
        scale: Size of the part relative to its nominal radius.
        azimuth: Direction of the lamp in the plane of the picture, in radians.
        elevation: Angle of the lamp over the belt in radians.
        strength: Brightness of the lamp.
        warmth: Excess of red over blue in the light.
        noise: Standard deviation of the sensor noise.
        grain: Seed of the textures and of the sensor noise.
    """

    shift: tuple[float, float]
    angle: float
    scale: float
    azimuth: float
    elevation: float
    strength: float
    warmth: float
    noise: float
    grain: int

    @classmethod
    def sample(cls, generator: Generator) -> "Scene":
        """Draw a random scene."""
        return cls(
            shift=(uniform(generator, -5, 5), uniform(generator, -5, 5)),
            angle=uniform(generator, -0.15, 0.15),  # a fixture turns the part, roughly
            scale=uniform(generator, 0.98, 1.02),
            azimuth=uniform(generator, -1.9, -1.5),
            elevation=uniform(generator, 0.9, 1.0),
            strength=uniform(generator, 0.85, 1.1),
            warmth=uniform(generator, -0.05, 0.05),
            noise=uniform(generator, 0.005, 0.012),
            grain=int(torch.randint(2**31, (), generator=generator)),
        )

    def part_grid(self) -> tuple[Tensor, Tensor]:
        """Coordinates (u, v) of each pixel relative to the centre of the part."""
        axis = torch.arange(SIZE) - (SIZE - 1) / 2
        y, x = torch.meshgrid(axis - self.shift[1], axis - self.shift[0], indexing="ij")
        cos, sin = math.cos(self.angle) / self.scale, math.sin(self.angle) / self.scale
        return cos * x + sin * y, cos * y - sin * x


@dataclass(frozen=True)
class Defect:
    """Maps that describe a defect, each ``(256, 256)``.

    Args:
        broken: Signed distance to the material that broke off in pixels, negative inside.
        cut: Depth of the removed surface material in pixels.
        bare: Additional brightness of fresh metal.
        film: Opacity of rust on the surface, in [0, 1].
        mask: True where the part is defective.
    """

    broken: Tensor
    cut: Tensor
    bare: Tensor
    film: Tensor
    mask: Tensor


def draw(scene: Scene, defect: Defect | None = None) -> Tensor:
    """Draw a part.

    Args:
        scene: Pose, light and noise.
        defect: Defect of the part, if any.

    Returns:
        RGB picture ``(3, 256, 256)``, uint8.

    Example:
        >>> draw(Scene.sample(Generator().manual_seed(0))).shape
        torch.Size([3, 256, 256])
    """
    grain = Generator().manual_seed(scene.grain)
    u, v = scene.part_grid()
    outline, height = shape(u, v, defect)
    steel = shade_steel(scene, u, v, height, grain, defect)
    belt = shade_belt(scene, u, v, outline, grain)
    covered = (0.5 - outline * scene.scale).clamp(0, 1)
    picture = torch.lerp(belt, steel, covered)
    light = torch.tensor([1 + scene.warmth, 1.0, 1 - scene.warmth]) * scene.strength
    picture = picture * light[:, None, None] * vignette()
    picture = picture + scene.noise * torch.randn(picture.shape, generator=grain)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def shape(u: Tensor, v: Tensor, defect: Defect | None = None) -> tuple[Tensor, Tensor]:
    """Outline and height of the flange.

    Args:
        u: First coordinate on the part in pixels, ``(256, 256)``.
        v: Second coordinate on the part in pixels, ``(256, 256)``.
        defect: Defect of the part, if any.

    Returns:
        Signed distance to the outline, negative on the metal, and height of the surface, both in pixels.
    """
    radius = torch.hypot(u, v)
    bolt = to_bolt_hole(u, v)
    keyway = torch.maximum(u.abs() - 4.5, (v + BORE).abs() - 6)
    rim = radius - OUTER if defect is None else torch.maximum(radius - OUTER, -defect.broken)
    bore = torch.minimum(radius - BORE, keyway)
    outline = torch.stack([rim, -bore, BOLT_HOLE - bolt]).amax(0)
    height = (
        4 * step(-rim / 5)
        + HUB_HEIGHT * step((HUB + 4 - radius) / 5)
        + 3 * step(bore / 3)
        + 3 * step((bolt - BOLT_HOLE) / 4)
        - 1.4 * torch.exp(-(((radius - GROOVE) / 1.6) ** 2))
        - 1.0 * engraving(u, v)
    )
    return outline, height if defect is None else height - defect.cut


def shade_steel(
    scene: Scene, u: Tensor, v: Tensor, height: Tensor, grain: Generator, defect: Defect | None = None
) -> Tensor:
    """Colour of the lit metal.

    The grooves of turning run around the centre, so the highlight has the shape of a bow tie. It is
    ``(1 - (t.h)^2)^p`` for the direction t of the groove and the half vector h.

    Args:
        scene: Pose, light and noise.
        u: First coordinate on the part in pixels, ``(256, 256)``.
        v: Second coordinate on the part in pixels, ``(256, 256)``.
        height: Height of the surface in pixels, ``(256, 256)``.
        grain: Source of randomness of the texture.
        defect: Defect of the part, if any.

    Returns:
        Colour ``(3, 256, 256)``.

    References:
        Kajiya and Kay, Rendering fur with three dimensional textures, 1989, https://doi.org/10.1145/74334.74361
    """
    slope_y, slope_x = torch.gradient(height * scene.scale)
    steepness = (1 + slope_x**2 + slope_y**2).sqrt()
    lamp_x, lamp_y, lamp_z = lamp_direction(scene)
    half_x, half_y, half_z = (part / math.sqrt(2 + 2 * lamp_z) for part in (lamp_x, lamp_y, lamp_z + 1))
    facing = ((lamp_z - slope_x * lamp_x - slope_y * lamp_y) / steepness).clamp(min=0)
    mirror = ((half_z - slope_x * half_x - slope_y * half_y) / steepness).clamp(min=0)

    radius, angle = torch.hypot(u, v), torch.atan2(v, u) + scene.angle
    groove_x, groove_y = -angle.sin(), angle.cos()
    climb = -(groove_x * slope_x + groove_y * slope_y) / steepness  # of the flat groove over the sloping surface
    along = (groove_x * half_x + groove_y * half_y - climb * mirror) / (1 - climb**2).sqrt()

    turned = 1 + 0.045 * turning_marks(radius, angle, grain)
    grey = (0.18 + 0.26 * facing + 0.46 * (1 - along**2) ** 14 * facing + 0.25 * mirror**40) * turned
    grey = grey * hub_shadow(scene, u, v) * (1 - 0.25 * torch.exp(-(((radius - HUB - 5) / 3) ** 2)))
    matt = (0.35 + 0.9 * facing) * turned
    if defect is not None:
        grey = grey + defect.bare * facing
    steel = torch.lerp(grey * colour(STEEL), matt * colour(PAINT), paint_dot(u, v))
    return steel if defect is None else torch.lerp(steel, matt * colour(RUST), defect.film)


def shade_belt(scene: Scene, u: Tensor, v: Tensor, outline: Tensor, grain: Generator) -> Tensor:
    """Colour of the belt with the shadow of the part.

    Args:
        scene: Pose, light and noise.
        u: First coordinate on the part in pixels, ``(256, 256)``.
        v: Second coordinate on the part in pixels, ``(256, 256)``.
        outline: Signed distance to the outline of the part in pixels, ``(256, 256)``.
        grain: Source of randomness of the texture.

    Returns:
        Colour ``(3, 256, 256)``.
    """
    axis = torch.arange(SIZE, dtype=torch.float32)
    phase = torch.rand(2, generator=grain) * 6
    weave = torch.sin((axis[:, None] + axis) * (math.pi / 3) + phase[0]) * torch.sin(
        (axis[:, None] - axis) * (math.pi / 3) + phase[1]
    )
    streaks = smooth_noise((1, 64), grain)
    clouds = smooth_noise((7, 7), grain)
    grit = torch.randn((SIZE, SIZE), generator=grain)
    belt = 1 + 0.12 * weave + 0.05 * streaks + 0.07 * clouds + 0.05 * grit

    away_u, away_v = toward_lamp(scene, THICKNESS)
    cast, _ = shape(u + away_u, v + away_v)
    shadow = torch.sigmoid(-cast / 2)
    contact = torch.exp(-outline.clamp(min=0) / 6)
    return belt * (1 - 0.62 * shadow) * (1 - 0.35 * contact) * colour(BELT)


def lamp_direction(scene: Scene) -> tuple[float, float, float]:
    """Unit vector (x, y, z) from the part to the lamp."""
    flat = math.cos(scene.elevation)
    return flat * math.cos(scene.azimuth), flat * math.sin(scene.azimuth), math.sin(scene.elevation)


def toward_lamp(scene: Scene, height: float) -> tuple[float, float]:
    """Step (u, v) toward the lamp over which its rays rise by ``height``."""
    reach = height / math.tan(scene.elevation)
    turn = scene.azimuth - scene.angle
    return reach * math.cos(turn), reach * math.sin(turn)


def hub_shadow(scene: Scene, u: Tensor, v: Tensor) -> Tensor:
    """Share of the light that reaches the flange beside its hub, in [0, 1]."""
    step_u, step_v = toward_lamp(scene, HUB_HEIGHT)
    behind = torch.sigmoid((HUB + 2 - torch.hypot(u + step_u, v + step_v)) / 1.2)
    beside = step((torch.hypot(u, v) - HUB - 1) / 3)
    return 1 - 0.5 * behind * beside


def turning_marks(radius: Tensor, angle: Tensor, grain: Generator) -> Tensor:
    """Fine grooves around the centre, with some variation along each."""
    table = torch.randn((1, 1, 160, 1), generator=grain) + 0.7 * torch.randn((1, 1, 160, 40), generator=grain)
    table = torch.cat([table, table[..., :1]], dim=-1)
    where = torch.stack([(angle / math.pi) % 2 - 1, radius / (OUTER / 2) - 1], dim=-1)
    return F.grid_sample(table, where[None], align_corners=True, padding_mode="border")[0, 0]


def engraving(u: Tensor, v: Tensor) -> Tensor:
    """Three engraved strokes on the face, 1 where engraved."""
    strokes = torch.minimum((u.abs() - 4).abs(), u.abs()) - 1
    return torch.sigmoid(-torch.maximum(strokes, (v - BOLT_CIRCLE).abs() - 8) / 0.7)


def paint_dot(u: Tensor, v: Tensor) -> Tensor:
    """Dot of paint in a warm colour like rust, 1 where it covers the face."""
    return torch.sigmoid(5.5 - torch.hypot(u, v + BOLT_CIRCLE))


def to_bolt_hole(u: Tensor, v: Tensor) -> Tensor:
    """Distance to the centre of the nearest bolt hole."""
    sector = 2 * math.pi / BOLTS
    angle = (torch.atan2(v, u) + sector / 2) % sector - sector / 2
    radius = torch.hypot(u, v)
    return torch.hypot(radius * angle.cos() - BOLT_CIRCLE, radius * angle.sin())


def smooth_noise(cells: tuple[int, int], generator: Generator) -> Tensor:
    """Normally distributed noise, interpolated from a coarse grid.

    Args:
        cells: Independent values down and across.
        generator: Source of randomness.

    Returns:
        Noise ``(256, 256)``.
    """
    noise = torch.randn((1, 1, *cells), generator=generator)
    return F.interpolate(noise, size=(SIZE, SIZE), mode="bicubic", align_corners=False)[0, 0]


def vignette() -> Tensor:
    """Decrease of the brightness towards the image corners, in [0, 1]."""
    axis = torch.linspace(-1, 1, SIZE)
    return 1 - 0.12 * (axis[:, None] ** 2 + axis**2)


def step(x: Tensor) -> Tensor:
    """Smooth step: 0 below 0, 1 above 1, a cubic between."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def colour(rgb: tuple[float, float, float]) -> Tensor:
    """RGB colour as a tensor ``(3, 1, 1)``."""
    return torch.tensor(rgb)[:, None, None]


def uniform(generator: Generator, low: float, high: float) -> float:
    """Draw one number between ``low`` and ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator))
