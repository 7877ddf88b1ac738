// Areas of a picture while they are drawn. All numbers are shares of the picture's width and height.

import type { Area, Corner } from "./manage";

export const MOST_AREAS = 32;
export const MOST_CORNERS = 64;

export const limited = (share: number): number => Math.min(1, Math.max(0, share));

/** A corner as it is sent: finer than a pixel of any camera, and short. */
export function rounded([x, y]: Corner): Corner {
  return [Math.round(limited(x) * 1e4) / 1e4, Math.round(limited(y) * 1e4) / 1e4];
}

export function movedCorner(area: Area, at: number, to: Corner): Area {
  return area.map((corner, place) => (place === at ? rounded(to) : corner));
}

/** Without this corner; null when less than an area is left. */
export function withoutCorner(area: Area, at: number): Area | null {
  return area.length > 3 ? area.filter((_, place) => place !== at) : null;
}

/** The way of an arrow key; null for any other key. */
export function way(event: KeyboardEvent): Corner | null {
  const step = event.shiftKey ? 0.1 : 0.01;
  switch (event.key) {
    case "ArrowLeft":
      return [-step, 0];
    case "ArrowRight":
      return [step, 0];
    case "ArrowUp":
      return [0, -step];
    case "ArrowDown":
      return [0, step];
    default:
      return null;
  }
}

/** The outline for an SVG of this size. */
export function points(area: Area, width: number, height: number): string {
  return area.map(([x, y]) => `${(x * width).toFixed(1)},${(y * height).toFixed(1)}`).join(" ");
}

export const near = (one: Corner, other: Corner): boolean => Math.hypot(one[0] - other[0], one[1] - other[1]) < 0.025;
