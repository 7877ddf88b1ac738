// Draw a box on a picture, to ask by that part of it. With a mouse, a finger or the keys.

import { useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import type { Box } from "../types";

interface Props {
  width: number;
  height: number;
  /** Where to begin: the box of the hit. */
  first: Box | null;
  onChosen: (box: Box) => void;
  onCancel: () => void;
}

const LEAST = 0.03;
const STEP = 0.02;
const MIDDLE: Box = { left: 0.35, top: 0.3, right: 0.65, bottom: 0.7 };

export function PartChooser({ width, height, first, onChosen, onCancel }: Props) {
  const own = useRef<SVGSVGElement>(null);
  const from = useRef<{ x: number; y: number } | null>(null);
  const [box, setBox] = useState<Box>(first ?? MIDDLE);

  /** Where the pointer is, in shares of the picture. */
  const place = (event: PointerEvent): { x: number; y: number } => {
    const matrix = own.current!.getScreenCTM()!.inverse();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    return { x: limited(at.x / width), y: limited(at.y / height) };
  };
  const onMove = (event: PointerEvent): void => {
    if (!from.current) return;
    const to = place(event);
    const { x, y } = from.current;
    setBox({
      left: Math.min(x, to.x),
      top: Math.min(y, to.y),
      right: Math.max(x, to.x),
      bottom: Math.max(y, to.y),
    });
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key === "Enter") onChosen(box);
    else if (event.key === "Escape") onCancel();
    else if (event.key.startsWith("Arrow")) setBox(moved(box, event.key, event.shiftKey));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const large = box.right - box.left >= LEAST && box.bottom - box.top >= LEAST;
  const sides = {
    x: box.left * width,
    y: box.top * height,
    width: (box.right - box.left) * width,
    height: (box.bottom - box.top) * height,
  };
  return (
    <div class="chooser" onKeyDown={onKey}>
      <svg
        ref={own}
        viewBox={`0 0 ${width} ${height}`}
        preserveAspectRatio="xMidYMid meet"
        tabindex={0}
        role="application"
        aria-label={t("part.keys")}
        autofocus
        onPointerDown={(event) => {
          if (event.button !== 0) return;
          event.preventDefault();
          own.current!.setPointerCapture(event.pointerId);
          from.current = place(event);
        }}
        onPointerMove={onMove}
        onPointerUp={() => (from.current = null)}
        onPointerCancel={() => (from.current = null)}
      >
        <path
          class="outside"
          fill-rule="evenodd"
          d={`M0 0H${width}V${height}H0Z M${sides.x} ${sides.y}h${sides.width}v${sides.height}h${-sides.width}Z`}
        />
        <g class="box-mark">
          <rect class="below" {...sides} />
          <rect class="above" {...sides} />
        </g>
      </svg>
      <div class="chooser-bar">
        <span class="chooser-hint">{t("part.hint")}</span>
        <button type="button" class="button" onClick={onCancel}>
          {t("cancel")}
        </button>
        <button type="button" class="button main" disabled={!large} onClick={() => onChosen(box)}>
          {t("part.ask")}
        </button>
      </div>
    </div>
  );
}

const limited = (share: number): number => Math.min(1, Math.max(0, share));

/** Arrows move the box; with Shift they move its right and lower sides. */
function moved(box: Box, key: string, size: boolean): Box {
  const across = key === "ArrowLeft" ? -STEP : key === "ArrowRight" ? STEP : 0;
  const down = key === "ArrowUp" ? -STEP : key === "ArrowDown" ? STEP : 0;
  if (size) {
    return {
      ...box,
      right: Math.max(box.left + LEAST, limited(box.right + across)),
      bottom: Math.max(box.top + LEAST, limited(box.bottom + down)),
    };
  }
  const x = Math.min(Math.max(across, -box.left), 1 - box.right);
  const y = Math.min(Math.max(down, -box.top), 1 - box.bottom);
  return { left: box.left + x, right: box.right + x, top: box.top + y, bottom: box.bottom + y };
}
