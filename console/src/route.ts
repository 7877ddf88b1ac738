// The address bar holds the whole question: these functions are all that reads or writes it.

import type { Box } from "./types";

export const PAGES = ["ask", "when", "live", "cameras", "system"] as const;
export type Page = (typeof PAGES)[number];

/** A part of a moment's picture, by which one can ask. */
export interface Part {
  moment: string;
  at: number;
  box: Box;
}

export interface Route {
  page: Page;
  q: string;
  /** The id of a moment: what looks like it. */
  like: string;
  part: Part | null;
  /** The key of a picture that this tab keeps; see keep.ts. */
  picture: string;
  cameras: string[];
  /** "30m", "24h", "7d": back from now. Or `from` and `to`, in ms; 0 is open. */
  since: string;
  from: number;
  to: number;
  objects: string[];
  sure: number;
  order: "relevance" | "time";
  all: boolean;
  limit: number;
  /** The moment that is open, and the instant of its picture. */
  moment: string;
  at: number;
  /** The camera whose settings are open; NEW for one that is to be added. */
  edit: string;
}

export const NEW = "+";

export const FIRST = 24;
export const MOST = 1000;

export const EMPTY: Route = {
  page: "ask",
  q: "",
  like: "",
  part: null,
  picture: "",
  cameras: [],
  since: "",
  from: 0,
  to: 0,
  objects: [],
  sure: 0,
  order: "relevance",
  all: false,
  limit: FIRST,
  moment: "",
  at: 0,
  edit: "",
};

const UNITS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** The length of "30m" in ms; 0 when it is no length. */
export function length(since: string): number {
  const found = /^([1-9]\d{0,3})([mhd])$/.exec(since);
  return found ? Number(found[1]) * UNITS[found[2]!]! : 0;
}

/** Read an address. What is wrong in it is left out, so that any address opens the page. */
export function parse(search: string): Route {
  const given = new URLSearchParams(search);
  const text = (name: string): string => given.get(name) ?? "";
  const page = PAGES.find((one) => one === text("page")) ?? "ask";
  const since = length(text("since")) ? text("since") : "";
  const sure = Number(text("sure"));
  const limit = Number(text("limit"));
  return {
    page,
    q: text("q").slice(0, 2000),
    like: text("like"),
    part: part(text("part"), text("part_at"), text("part_box")),
    picture: text("picture"),
    cameras: unique(given.getAll("camera")),
    since,
    from: since ? 0 : time(text("from")),
    to: since ? 0 : time(text("to")),
    objects: unique(given.getAll("object")),
    sure: sure > 0 && sure <= 1 ? sure : 0,
    order: text("order") === "time" ? "time" : "relevance",
    all: text("all") === "1",
    limit: Number.isInteger(limit) && limit > 0 ? Math.min(limit, MOST) : FIRST,
    moment: text("moment"),
    at: whole(text("at")),
    edit: page === "cameras" ? text("edit").slice(0, 64) : "",
  };
}

/** The address of a route, such as "?q=red+truck"; "" is not an address, so an empty one is "?". */
export function format(route: Route): string {
  const said = new URLSearchParams();
  const say = (name: string, value: string | number, unsaid: string | number): void => {
    if (value !== unsaid) said.append(name, String(value));
  };
  say("page", route.page, "ask");
  questionOf(route, said);
  if (route.limit !== FIRST) said.append("limit", String(route.limit));
  say("moment", route.moment, "");
  if (route.moment) say("at", route.at, 0);
  if (route.page === "cameras") say("edit", route.edit, "");
  return `?${said.toString()}`;
}

function questionOf(route: Route, said: URLSearchParams): void {
  const say = (name: string, value: string, there: unknown): void => {
    if (there) said.append(name, value);
  };
  say("q", route.q, route.q);
  say("like", route.like, route.like);
  if (route.part) {
    const { moment, at, box } = route.part;
    said.append("part", moment);
    said.append("part_at", String(at));
    said.append("part_box", [box.left, box.top, box.right, box.bottom].map((side) => side.toFixed(3)).join(","));
  }
  say("picture", route.picture, route.picture);
  for (const camera of route.cameras) said.append("camera", camera);
  say("since", route.since, route.since);
  say("from", iso(route.from), route.from);
  say("to", iso(route.to), route.to);
  for (const kind of route.objects) said.append("object", kind);
  say("sure", String(route.sure), route.sure);
  say("order", "time", route.order === "time");
  say("all", "1", route.all);
}

/** The question alone, without the page, the open moment and how many are shown: what saved questions keep. */
export function questionKey(route: Route): string {
  const said = new URLSearchParams();
  questionOf(route, said);
  return said.toString();
}

/** Whether anything is asked for. */
export function asks(route: Route): boolean {
  return Boolean(route.q.trim() || route.like || route.part || route.picture);
}

export function filters(route: Route): boolean {
  return Boolean(
    route.cameras.length ||
      route.since ||
      route.from ||
      route.to ||
      route.objects.length ||
      route.sure ||
      route.all,
  );
}

/** What the API is asked, but for a picture in the body. */
export function apiQuery(route: Route, now: number): URLSearchParams {
  const said = new URLSearchParams();
  if (route.like) said.append("like", route.like);
  else if (!route.part && !route.picture) said.append("q", route.q.trim());
  for (const camera of route.cameras) said.append("camera", camera);
  const start = route.since ? now - length(route.since) : route.from;
  if (start) said.append("start_ms", String(start));
  if (route.to) said.append("end_ms", String(route.to));
  for (const kind of route.objects) said.append("object", kind);
  if (route.sure) said.append("min_confidence", String(route.sure));
  if (route.order === "time") said.append("order", "time");
  if (route.all) said.append("all_moments", "true");
  said.append("limit", String(route.limit));
  return said;
}

function part(moment: string, at: string, sides: string): Part | null {
  const [left, top, right, bottom, more] = sides.split(",").map(Number);
  if (!moment || more !== undefined) return null;
  if (left === undefined || top === undefined || right === undefined || bottom === undefined) return null;
  if (!(0 <= left && left < right && right <= 1 && 0 <= top && top < bottom && bottom <= 1)) return null;
  return { moment, at: whole(at), box: { left, top, right, bottom } };
}

function whole(text: string): number {
  const value = Number(text);
  return Number.isSafeInteger(value) && value > 0 ? value : 0;
}

function time(text: string): number {
  const value = text ? Date.parse(text) : 0;
  return Number.isFinite(value) && value > 0 ? value : 0;
}

function iso(ms: number): string {
  return ms ? new Date(ms).toISOString().replace(".000Z", "Z") : "";
}

function unique(values: string[]): string[] {
  return [...new Set(values.filter(Boolean))];
}
