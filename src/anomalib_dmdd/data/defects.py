"""Random defects of a drawn part: chip, scratch and stain."""

import math

import torch
from torch import Generator, Tensor

from .drawing import BOLTS, GROOVE, OUTER, SIZE, Defect, Scene, shape, smooth_noise, step, uniform

KINDS = ("chip", "scratch", "stain")
HALF_PIXEL = 0.5


def sample_defect(kind: str, scene: Scene, generator: Generator) -> Defect:
    """Draw a random defect of a part.

    Args:
        kind: One of ``KINDS``.
        scene: The part.
        generator: Source of randomness.

    Returns:
        A defect for this scene.
    """
    u, v = scene.part_grid()
    return {"chip": chip, "scratch": scratch, "stain": stain}[kind](u, v, generator)


def chip(u: Tensor, v: Tensor, generator: Generator) -> Defect:
    """A chip: a piece broken off the rim, with a rough and bright fracture.

    Args:
        u: First coordinate on the part in pixels, ``(256, 256)``.
        v: Second coordinate on the part in pixels, ``(256, 256)``.
        generator: Source of randomness.
    """
    angle = uniform(generator, 0, 2 * math.pi)
    size = uniform(generator, 16, 22)
    rough = smooth_noise((40, 40), generator)
    away = torch.hypot(u - OUTER * math.cos(angle), v - OUTER * math.sin(angle))
    broken = away - size + 1.2 * rough
    slope = 12.0  # length of the fracture from the face down to the belt
    wall = step(1 - broken / slope)
    outline, _ = shape(u, v)
    return Defect(
        broken=broken,
        cut=wall * (6 + 2.5 * rough),
        bare=0.5 * wall,
        film=torch.zeros_like(u),
        mask=(broken < 0.8 * slope) & (outline < HALF_PIXEL),
    )


def scratch(u: Tensor, v: Tensor, generator: Generator) -> Defect:
    """A scratch: a bent furrow across the face, with a burr on both sides.

    Args:
        u: First coordinate on the part in pixels, ``(256, 256)``.
        v: Second coordinate on the part in pixels, ``(256, 256)``.
        generator: Source of randomness.
    """
    centre = on_face(generator)
    heading = math.atan2(centre[1], centre[0]) + uniform(generator, -0.9, 0.9)  # along the turning marks it would hide
    length, bend, width = uniform(generator, 56, 76), uniform(generator, -0.012, 0.012), uniform(generator, 3, 4)
    du, dv = u - centre[0], v - centre[1]
    along = math.cos(heading) * du + math.sin(heading) * dv
    across = math.cos(heading) * dv - math.sin(heading) * du - bend * along**2
    tip = (1 - (2 * along / length) ** 2).clamp(min=0).sqrt()
    furrow, burr = torch.exp(-((across / width) ** 2)), torch.exp(-((across / (1.6 * width)) ** 2))
    outline, _ = shape(u, v)
    return Defect(
        broken=torch.full_like(u, SIZE),
        cut=tip * (9 * furrow - 3.5 * burr),
        bare=0.3 * tip * furrow,
        film=torch.zeros_like(u),
        mask=(across.abs() < 2.5 * width) & (tip > 0) & (outline < 0),
    )


def stain(u: Tensor, v: Tensor, generator: Generator) -> Defect:
    """A stain: a spot of rust.

    Args:
        u: First coordinate on the part in pixels, ``(256, 256)``.
        v: Second coordinate on the part in pixels, ``(256, 256)``.
        generator: Source of randomness.
    """
    centre, turn = on_face(generator), uniform(generator, 0, math.pi)
    size, stretch = uniform(generator, 14, 19), uniform(generator, 1, 1.4)
    du, dv = u - centre[0], v - centre[1]
    along = (math.cos(turn) * du + math.sin(turn) * dv) / stretch
    across = (math.cos(turn) * dv - math.sin(turn) * du) * stretch
    spot = torch.hypot(along, across) - size + 1.6 * smooth_noise((24, 24), generator)
    patches = smooth_noise((64, 64), generator)
    film = uniform(generator, 0.8, 0.95) * torch.sigmoid(-spot / 0.8) * (1 + 0.3 * patches).clamp(0, 1)
    outline, _ = shape(u, v)
    return Defect(
        broken=torch.full_like(u, SIZE),
        cut=torch.zeros_like(u),
        bare=torch.zeros_like(u),
        film=film,
        mask=(spot < HALF_PIXEL) & (outline < 0),
    )


def on_face(generator: Generator) -> tuple[float, float]:
    """A random point (u, v) on the flange, between two of its bolt holes."""
    sector = int(torch.randint(BOLTS, (), generator=generator)) + uniform(generator, 0.25, 0.75)
    radius, angle = uniform(generator, GROOVE + 6, OUTER - 10), sector * 2 * math.pi / BOLTS
    return radius * math.cos(angle), radius * math.sin(angle)
