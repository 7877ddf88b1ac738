// The drawing of the timeline: an axis, how many answers there are over time, and a row for each camera.

import type { RefObject } from "preact";
import { useId } from "preact/hooks";
import * as format from "../format";
import { t } from "../i18n";
import { density, placeOf, showsDays, showsSeconds, ticks, type Row, type View } from "../timeline";
import type { Hit, Reply } from "../types";

const AXIS = 24;
const BARS = 44;
const ROW = 40;
const BAR_PX = 6;
const TICK_PX = 76;
const LEAST_PX = 4;

interface Props {
  rows: Row[];
  view: View;
  width: number;
  reply: Reply;
  cursor: number | null;
  chosen: Hit | null;
  tracks: RefObject<HTMLDivElement | null>;
}

export function TimeRows({ rows, view, width, reply, cursor, chosen, tracks }: Props) {
  const hatch = useId();
  const marks = ticks(view, width, TICK_PX);
  const label = (ms: number): string =>
    showsDays(marks.step) ? format.day(ms) : showsSeconds(marks.step) ? format.clock(ms) : format.shortClock(ms);
  return (
    <div class="rows">
      <div class="names" aria-hidden="true">
        <div class="name count">{t("when.density")}</div>
        {rows.map((row) => (
          <div key={row.camera} class="name" title={row.camera}>
            {row.camera}
          </div>
        ))}
      </div>
      <div class="tracks" ref={tracks}>
        <svg class="hatch-of" width="0" height="0" aria-hidden="true">
          <pattern id={hatch} width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
            <path d="M0 0V6" />
          </pattern>
        </svg>
        <svg class="axis" width={width} height={AXIS} aria-hidden="true">
          {marks.at.map((ms) => {
            const x = placeOf(ms, view, width);
            return (
              <g key={ms}>
                <path d={`M${x} ${AXIS - 5}V${AXIS}`} />
                {x > 28 && x < width - 28 && (
                  <text x={x} y={AXIS - 9} text-anchor="middle">
                    {label(ms)}
                  </text>
                )}
              </g>
            );
          })}
        </svg>
        <Bars {...{ rows, view, width }} threshold={reply.threshold} />
        {rows.map((row) => (
          <Track key={row.camera} {...{ row, view, width, chosen, hatch }} threshold={reply.threshold} />
        ))}
        {cursor !== null && cursor >= view.start && cursor <= view.end && (
          <div class="cursor" style={{ left: `${placeOf(cursor, view, width)}px` }} />
        )}
      </div>
    </div>
  );
}

function Bars({ rows, view, width, threshold }: { rows: Row[]; view: View; width: number; threshold: number }) {
  const count = Math.max(1, Math.floor(width / BAR_PX));
  const { sure, weak } = density(rows.flatMap((row) => row.hits), view, count, threshold);
  const most = Math.max(1, ...sure.map((one, at) => one + weak[at]!));
  const wide = width / count;
  const high = (n: number): number => (n / most) * (BARS - 6);
  return (
    <svg class="bars" width={width} height={BARS} aria-hidden="true">
      {sure.map((one, at) => {
        const all = one + weak[at]!;
        if (!all) return null;
        const place = { x: at * wide + 0.5, width: Math.max(1, wide - 1) };
        return (
          <g key={at}>
            <rect class="weak" {...place} y={BARS - high(all)} height={high(all)} />
            <rect class="sure" {...place} y={BARS - high(one)} height={high(one)} />
          </g>
        );
      })}
    </svg>
  );
}

interface TrackProps {
  row: Row;
  view: View;
  width: number;
  threshold: number;
  chosen: Hit | null;
  hatch: string;
}

function Track({ row, view, width, threshold, chosen, hatch }: TrackProps) {
  const span = (start: number, end: number): { x: number; width: number } | null => {
    if (end < view.start || start > view.end) return null;
    const x = Math.max(-LEAST_PX, placeOf(start, view, width));
    return { x, width: Math.max(LEAST_PX, Math.min(width + LEAST_PX, placeOf(end, view, width)) - x) };
  };
  const unlooked = row.looked && row.looked < view.end ? span(row.looked, view.end) : null;
  return (
    <svg
      class="track"
      data-camera={row.camera}
      width={width}
      height={ROW}
      role="img"
      aria-label={t("when.row", { camera: row.camera, n: row.hits.length, gaps: row.gaps.length })}
    >
      <rect class="ground" width={width} height={ROW - 8} y="4" rx="4" />
      {unlooked && <rect class="unlooked" {...unlooked} y="4" height={ROW - 8} fill={`url(#${hatch})`} />}
      {row.gaps.map((gap) => {
        const place = span(gap.start_ms, gap.end_ms);
        return place && <rect key={`${gap.start_ms}${gap.reason}`} class="gap" {...place} y="4" height={ROW - 8} fill={`url(#${hatch})`} />;
      })}
      {[...row.hits]
        .sort((a, b) => a.confidence - b.confidence)
        .map((hit) => {
          const place = span(hit.start_ms, hit.end_ms);
          if (!place) return null;
          const sure = hit.confidence >= threshold;
          return (
            <rect
              key={hit.moment_id}
              class={`hit ${sure ? "sure" : "weak"}${hit === chosen ? " chosen" : ""}`}
              {...place}
              y={sure ? 8 : 13}
              height={sure ? ROW - 16 : ROW - 26}
              rx="2"
            />
          );
        })}
    </svg>
  );
}
