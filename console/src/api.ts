// The API, and what can go wrong with it.

import { signal } from "@preact/signals";
import { recallHere, rememberHere } from "./keep";
import { apiQuery, type Route } from "./route";
import type { Cameras, Health, Reply } from "./types";

const BASE = new URL("api/v1/", document.baseURI);
const PATIENCE_MS = 30_000;

/** The bearer token, kept for this tab only; "" without one. */
export const token = signal(recallHere("token") ?? "");
/** Set when the gateway wants a token, or refuses the one it got. */
export const tokenWanted = signal(false);

export function setToken(given: string): void {
  token.value = given;
  rememberHere("token", given || null);
  tokenWanted.value = false;
}

/** What went wrong, in words for people: what it is, and what to do. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly todo: string,
  ) {
    super(detail || title);
  }

  /** Nobody answered: the gateway is away, or the way to it. */
  get offline(): boolean {
    return this.status === 0;
  }

  get busy(): boolean {
    return this.status === 429 || this.status === 503;
  }

  /** The same may do a moment later. */
  get passing(): boolean {
    return this.offline || this.busy || this.status === 504;
  }
}

export function address(path: string, query?: URLSearchParams): string {
  const url = new URL(path, BASE);
  if (query) url.search = query.toString();
  return url.toString();
}

/** An answer with a good status; any other is a Problem. */
export async function ask(url: string, how: RequestInit = {}): Promise<Response> {
  const headers = new Headers(how.headers);
  if (token.value) headers.set("Authorization", `Bearer ${token.value}`);
  const late = AbortSignal.timeout(PATIENCE_MS);
  const signal = how.signal ? AbortSignal.any([how.signal, late]) : late;
  let response: Response;
  try {
    response = await fetch(url, { ...how, headers, signal, redirect: "error" });
  } catch (error) {
    if (how.signal?.aborted) throw error;
    throw new Problem(0, "", "", "");
  }
  if (response.status === 401) tokenWanted.value = true;
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response: Response): Promise<Problem> {
  let said: Record<string, unknown> = {};
  try {
    const parsed: unknown = await response.json();
    if (parsed && typeof parsed === "object") said = parsed as Record<string, unknown>;
  } catch {
    // A proxy's page, or nothing: the status has to do.
  }
  const text = (name: string): string => (typeof said[name] === "string" ? said[name] : "");
  return new Problem(response.status, text("title") || response.statusText, text("detail"), text("todo"));
}

export async function json<T>(url: string, how: RequestInit = {}): Promise<T> {
  return read<T>(await ask(url, how), how);
}

/** The body of an answer. */
export async function read<T>(response: Response, how: RequestInit = {}): Promise<T> {
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (how.signal?.aborted) throw error;
    throw new Problem(response.status, "", "", "");
  }
}

/** Ask a question. A picture is sent as it is. */
export function search(route: Route, picture: Blob | null, signal: AbortSignal): Promise<Reply> {
  const url = address("search", apiQuery(route, Date.now()));
  return picture
    ? json<Reply>(url, { method: "POST", body: picture, headers: { "Content-Type": picture.type }, signal })
    : json<Reply>(url, { signal });
}

export function cameras(): Promise<Cameras> {
  return json<Cameras>(address("cameras"));
}

export function health(signal: AbortSignal): Promise<Health> {
  return json<Health>(address("health"), { signal });
}

export function clipAddress(camera: string, start: number, end: number): string {
  return address("clip", new URLSearchParams({ camera, start_ms: String(start), end_ms: String(end) }));
}
