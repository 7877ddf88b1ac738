// The geometry of the timeline. Times in ms, places in pixels; nothing here draws.

import type { Gap, Hit, Reply } from "./types";

export interface View {
  start: number;
  end: number;
}

export interface Row {
  camera: string;
  hits: Hit[];
  gaps: Gap[];
  /** Up to when the camera was looked at; 0 when it is not known. */
  looked: number;
}

const SHORTEST_MS = 2000;

/** All that the answer tells of: the asked time where it is bounded, else from the first answer to the last. */
export function wholeView(reply: Reply, from: number, to: number, now: number): View {
  const first = reply.hits.length ? Math.min(...reply.hits.map((hit) => hit.start_ms)) : now - 3_600_000;
  const last = reply.hits.length ? Math.max(...reply.hits.map((hit) => hit.end_ms)) : now;
  const start = from || first;
  const end = Math.max(to ? Math.min(to, now) : last, start + SHORTEST_MS);
  const margin = (end - start) * 0.02;
  return { start: from ? start : start - margin, end: to ? end : end + margin };
}

/** Zoom by a factor around a time that stays where it is, without leaving the whole. */
export function zoomed(view: View, by: number, around: number, whole: View): View {
  const wanted = Math.max(SHORTEST_MS, (view.end - view.start) / by);
  const share = (around - view.start) / (view.end - view.start);
  return within({ start: around - wanted * share, end: around + wanted * (1 - share) }, whole);
}

export function panned(view: View, ms: number, whole: View): View {
  return within({ start: view.start + ms, end: view.end + ms }, whole);
}

function within(view: View, whole: View): View {
  const length = Math.min(view.end - view.start, whole.end - whole.start);
  const start = Math.min(Math.max(view.start, whole.start), whole.end - length);
  return { start, end: start + length };
}

export const placeOf = (ms: number, view: View, width: number): number =>
  ((ms - view.start) / (view.end - view.start)) * width;

export const timeAt = (x: number, view: View, width: number): number =>
  view.start + (x / Math.max(1, width)) * (view.end - view.start);

/** A row for each asked camera that has something to show, in the order of their names. */
export function rowsOf(reply: Reply, asked: string[], known: string[]): Row[] {
  const names = new Set(asked.length ? asked : [...known, ...reply.hits.map((hit) => hit.camera)]);
  const rows = new Map([...names].toSorted().map((camera): [string, Row] => [camera, { camera, hits: [], gaps: [], looked: 0 }]));
  for (const hit of reply.hits) rows.get(hit.camera)?.hits.push(hit);
  for (const gap of reply.coverage.gaps) {
    if (gap.camera) rows.get(gap.camera)?.gaps.push(gap);
    else for (const row of rows.values()) row.gaps.push(gap); // it may be any camera
  }
  for (const mark of reply.coverage.watermarks) {
    const row = rows.get(mark.camera);
    if (row) row.looked = mark.looked_ms;
  }
  for (const row of rows.values()) row.hits.sort((a, b) => a.start_ms - b.start_ms);
  return [...rows.values()];
}

/** How many sure and weak answers touch each of `count` equal parts of the view. */
export function density(hits: Hit[], view: View, count: number, threshold: number): { sure: number[]; weak: number[] } {
  const sure = new Array<number>(count).fill(0);
  const weak = new Array<number>(count).fill(0);
  const bucket = (ms: number): number => Math.floor(((ms - view.start) / (view.end - view.start)) * count);
  for (const hit of hits) {
    if (hit.end_ms < view.start || hit.start_ms > view.end) continue;
    const into = hit.confidence >= threshold ? sure : weak;
    const last = Math.min(count - 1, bucket(hit.end_ms));
    for (let at = Math.max(0, bucket(hit.start_ms)); at <= last; at += 1) into[at]! += 1;
  }
  return { sure, weak };
}

/** The answer of a row that is nearest to a time, or null when none is within `reach` ms. */
export function nearest(row: Row, ms: number, reach: number): Hit | null {
  let best: Hit | null = null;
  let least = reach;
  for (const hit of row.hits) {
    const far = ms < hit.start_ms ? hit.start_ms - ms : ms > hit.end_ms ? ms - hit.end_ms : 0;
    if (far < least || (far === least && best && hit.confidence > best.confidence)) {
      best = hit;
      least = far;
    }
  }
  return best;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((n) => n * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
  ...[1, 2, 7, 14, 30, 90, 365].map((n) => n * DAY),
];

export interface Ticks {
  step: number;
  at: number[];
}

/** Round local times that are at least `apart` pixels from each other. */
export function ticks(view: View, width: number, apart: number): Ticks {
  const most = Math.max(1, Math.floor(width / apart));
  const step = STEPS.find((one) => (view.end - view.start) / one <= most) ?? STEPS.at(-1)!;
  const zone = new Date(view.start).getTimezoneOffset() * MINUTE;
  const at: number[] = [];
  for (let ms = Math.ceil((view.start - zone) / step) * step + zone; ms <= view.end; ms += step) at.push(ms);
  return { step, at };
}

export const showsSeconds = (step: number): boolean => step < MINUTE;
export const showsDays = (step: number): boolean => step >= DAY;
