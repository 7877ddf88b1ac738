// Numbers and times for people.

import { locale } from "./i18n";

const formats = new Map<string, Intl.DateTimeFormat>();

function said(ms: number, how: Intl.DateTimeFormatOptions): string {
  const key = locale.value + JSON.stringify(how);
  let made = formats.get(key);
  if (!made) formats.set(key, (made = new Intl.DateTimeFormat(locale.value, how)));
  return made.format(ms);
}

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit" } as const;
const DAY = { weekday: "short", day: "numeric", month: "short" } as const;

export const clock = (ms: number): string => said(ms, CLOCK);
export const shortClock = (ms: number): string => said(ms, { hour: "2-digit", minute: "2-digit" });
export const day = (ms: number): string => said(ms, DAY);

export function sameDay(one: number, other: number): boolean {
  return new Date(one).toDateString() === new Date(other).toDateString();
}

/** A moment of today by its clock, another with its day. */
export function moment(ms: number, now = Date.now()): string {
  if (sameDay(ms, now)) return clock(ms);
  const year = new Date(ms).getFullYear() === new Date(now).getFullYear() ? {} : ({ year: "numeric" } as const);
  return said(ms, { ...DAY, ...year, ...CLOCK });
}

export const full = (ms: number): string =>
  said(ms, { weekday: "long", year: "numeric", month: "long", day: "numeric", ...CLOCK, timeZoneName: "short" });

/** "10:02:11 - 10:05:40", with days where they are needed. */
export function span(start: number, end: number, now = Date.now()): string {
  if (end - start < 1000) return moment(start, now);
  return `${moment(start, now)} – ${sameDay(start, end) ? clock(end) : moment(end, now)}`;
}

/** How long: "8 s", "3 min", "2 h". */
export function lasts(ms: number): string {
  const [value, unit] =
    ms < 90_000 ? [ms / 1000, "second"] : ms < 5_400_000 ? [ms / 60_000, "minute"] : [ms / 3_600_000, "hour"];
  const shown = unit === "hour" && value < 10 ? Math.round(value * 10) / 10 : Math.max(1, Math.round(value as number));
  return new Intl.NumberFormat(locale.value, { style: "unit", unit: unit as string, unitDisplay: "narrow" }).format(
    shown as number,
  );
}

/** 100 and 0 per cent are said only of what is that sure. */
export function percent(share: number): string {
  const close = (share >= 0.995 && share < 0.9995) || (share >= 0.0005 && share < 0.005);
  return new Intl.NumberFormat(locale.value, {
    style: "percent",
    minimumFractionDigits: close ? 1 : 0,
    maximumFractionDigits: close ? 1 : 0,
  }).format(share);
}

export const number = (value: number): string => new Intl.NumberFormat(locale.value).format(value);

/** For <input type="datetime-local">: local time to the minute. */
export function localInput(ms: number): string {
  if (!ms) return "";
  const at = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
}
