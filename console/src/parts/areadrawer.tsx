// Draw areas on a picture: masks, and where movement says nothing. With a mouse, a finger or the keys.

import { useRef, useState } from "preact/hooks";
import { MOST_AREAS, MOST_CORNERS, movedCorner, near, points, rounded, way, withoutCorner } from "../areas";
import { t } from "../i18n";
import type { Area, Corner } from "../manage";
import { Icon } from "./icons";

export type AreaKind = "masks" | "ignored";
const KINDS: AreaKind[] = ["masks", "ignored"];

interface Props {
  picture: string;
  masks: Area[];
  ignored: Area[];
  onChange: (kind: AreaKind, areas: Area[]) => void;
}

export function AreaDrawer({ picture, masks, ignored, onChange }: Props) {
  const own = useRef<SVGSVGElement>(null);
  const [[width, height], setSize] = useState<[number, number]>([16, 9]);
  const [kind, setKind] = useState<AreaKind>("masks");
  /** The corners drawn so far; null while nothing is drawn. */
  const [drawn, setDrawn] = useState<Area | null>(null);
  const [cursor, setCursor] = useState<Corner>([0.5, 0.5]);
  const held = useRef<{ kind: AreaKind; area: number; corner: number } | null>(null);
  const all: Record<AreaKind, Area[]> = { masks, ignored };

  const place = (event: PointerEvent): Corner => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(own.current!.getScreenCTM()!.inverse());
    return rounded([at.x / width, at.y / height]);
  };
  const begin = (): void => {
    setDrawn([]);
    setCursor([0.5, 0.5]);
    own.current?.focus();
  };
  const close = (corners: Area): void => {
    if (corners.length < 3) return;
    onChange(kind, [...all[kind], corners]);
    setDrawn(null);
  };
  const add = (corner: Corner): void => {
    if (!drawn) return;
    const first = drawn[0];
    if (first && drawn.length >= 3 && near(first, corner)) close(drawn);
    else setDrawn((now) => (now && now.length < MOST_CORNERS ? [...now, corner] : now));
  };
  const onKey = (event: KeyboardEvent): void => {
    if (!drawn) return;
    const to = way(event);
    if (to) setCursor(rounded([cursor[0] + to[0], cursor[1] + to[1]]));
    else if (event.key === " ") add(cursor);
    else if (event.key === "Enter") close(drawn);
    else if (event.key === "Backspace") setDrawn(drawn.slice(0, -1));
    else if (event.key === "Escape") setDrawn(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const change = (which: AreaKind, area: number, next: Area | null): void => {
    onChange(which, all[which].flatMap((one, at) => (at === area ? (next ? [next] : []) : [one])));
  };
  const onCornerKey = (event: KeyboardEvent, which: AreaKind, area: number, corner: number): void => {
    const corners = all[which][area]!;
    const to = way(event);
    if (to) change(which, area, movedCorner(corners, corner, [corners[corner]![0] + to[0], corners[corner]![1] + to[1]]));
    else if (event.key === "Delete" || event.key === "Backspace") change(which, area, withoutCorner(corners, corner));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const radius = Math.max(width, height) / 110;
  return (
    <div class="drawer">
      <div class="drawer-stage">
        <img
          src={picture}
          alt=""
          draggable={false}
          onLoad={(event) => setSize([event.currentTarget.naturalWidth, event.currentTarget.naturalHeight])}
        />
        <svg
          ref={own}
          class={drawn ? "drawing" : ""}
          viewBox={`0 0 ${width} ${height}`}
          tabindex={drawn ? 0 : -1}
          role="application"
          aria-label={t("areas.keys")}
          onKeyDown={onKey}
          onPointerDown={(event) => {
            if (event.button !== 0 || !drawn) return;
            event.preventDefault();
            own.current!.focus();
            setCursor(place(event));
            add(place(event));
          }}
          onPointerMove={(event) => {
            const now = held.current;
            if (now) change(now.kind, now.area, movedCorner(all[now.kind][now.area]!, now.corner, place(event)));
            else if (drawn) setCursor(place(event));
          }}
          onPointerUp={() => (held.current = null)}
          onPointerCancel={() => (held.current = null)}
        >
          {KINDS.flatMap((which) =>
            all[which].map((area, at) => (
              <g key={`${which}${at}`} class={`area ${which}`}>
                <polygon points={points(area, width, height)} />
                {!drawn &&
                  area.map(([x, y], corner) => (
                    <circle
                      key={corner}
                      cx={x * width}
                      cy={y * height}
                      r={radius}
                      tabindex={0}
                      role="button"
                      aria-label={t("areas.corner", { n: corner + 1, area: t(`areas.${which}.one`, { n: at + 1 }) })}
                      onKeyDown={(event) => onCornerKey(event, which, at, corner)}
                      onPointerDown={(event) => {
                        event.preventDefault();
                        event.stopPropagation();
                        (event.currentTarget as SVGElement).focus();
                        own.current!.setPointerCapture(event.pointerId);
                        held.current = { kind: which, area: at, corner };
                      }}
                    />
                  ))}
              </g>
            )),
          )}
          {drawn && (
            <g class={`area ${kind} open`}>
              <polyline points={points([...drawn, cursor], width, height)} />
              {drawn.map(([x, y], corner) => (
                <circle key={corner} cx={x * width} cy={y * height} r={radius} />
              ))}
              <circle class="cursor" cx={cursor[0] * width} cy={cursor[1] * height} r={radius} />
            </g>
          )}
        </svg>
      </div>
      <div class="drawer-bar">
        {drawn ? (
          <>
            <span class="hint">{t("areas.hint")}</span>
            <button type="button" class="button" onClick={() => setDrawn(null)}>
              {t("cancel")}
            </button>
            <button type="button" class="button main" disabled={drawn.length < 3} onClick={() => close(drawn)}>
              {t("areas.close")}
            </button>
          </>
        ) : (
          KINDS.map((which) => (
            <button
              key={which}
              type="button"
              class="button"
              disabled={all[which].length >= MOST_AREAS}
              onClick={() => {
                setKind(which);
                begin();
              }}
            >
              <Icon name="plus" />
              {t(`areas.${which}.draw`)}
            </button>
          ))
        )}
      </div>
      {KINDS.some((which) => all[which].length > 0) && (
        <ul class="drawer-list">
          {KINDS.flatMap((which) =>
            all[which].map((_, at) => {
              const name = t(`areas.${which}.one`, { n: at + 1 });
              return (
                <li key={`${which}${at}`} class={which}>
                  <span class="swatch" aria-hidden="true" />
                  {name}
                  <button
                    type="button"
                    class="quiet round"
                    aria-label={t("areas.remove", { area: name })}
                    title={t("areas.remove", { area: name })}
                    onClick={() => change(which, at, null)}
                  >
                    <Icon name="close" />
                  </button>
                </li>
              );
            }),
          )}
        </ul>
      )}
    </div>
  );
}
