// What is live, as the gateway tells it: one stream of events, from where it broke off.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { address, Problem, token, tokenWanted } from "./api";
import type { Camera, Hit } from "./types";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;
/** A gateway that is well says something at least every quarter of a minute. */
const SILENT_MS = 40_000;
const NEW_MS = 5000;

export interface Live {
  cameras: Map<string, Camera>;
  /** Up to when each was looked at. */
  looked: Map<string, number>;
  /** The latest moment of each. */
  moments: Map<string, Hit>;
}

export const live = signal<Live | null>(null);
/** The cameras that showed something new a moment ago. */
export const news = signal<ReadonlySet<string>>(new Set());
export const liveProblem = signal<Problem | null>(null);

/** Follow what is live while the page is looked at. */
export function useLive(): void {
  const key = token.value;
  useEffect(() => {
    let stop = new AbortController();
    const follow = (): void => {
      stop.abort();
      stop = new AbortController();
      if (document.visibilityState === "visible") void keepFollowing(stop.signal);
    };
    follow();
    document.addEventListener("visibilitychange", follow);
    return () => {
      document.removeEventListener("visibilitychange", follow);
      stop.abort();
    };
  }, [key]);
}

let lastId = "";
let wholeId = "";
let askedWith = "";

async function keepFollowing(stop: AbortSignal): Promise<void> {
  let pause = FIRST_PAUSE_MS;
  if (askedWith !== token.peek()) {
    // Another token sees other cameras.
    askedWith = token.peek();
    lastId = "";
    live.value = null;
  }
  while (!stop.aborted) {
    try {
      await follow(stop, () => {
        pause = FIRST_PAUSE_MS;
      });
    } catch (error) {
      if (stop.aborted) return;
      liveProblem.value = error instanceof Problem ? error : new Problem(0, "", "", "");
      if (liveProblem.value.status === 401) {
        tokenWanted.value = true;
        return;
      }
    }
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(LONGEST_PAUSE_MS, 2 * pause);
  }
}

async function follow(stop: AbortSignal, onEvent: () => void): Promise<void> {
  const headers = new Headers({ Accept: "text/event-stream" });
  if (token.peek()) headers.set("Authorization", `Bearer ${token.peek()}`);
  if (lastId) headers.set("Last-Event-ID", lastId);
  const silent = new AbortController();
  let timer = setTimeout(() => silent.abort(), SILENT_MS);
  try {
    const signal = AbortSignal.any([stop, silent.signal]);
    const response = await fetch(address("live/events"), { headers, signal, redirect: "error" });
    if (!response.ok || !response.body) throw await refusal(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENT_MS);
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop()!;
      take(blocks);
      onEvent();
    }
  } finally {
    clearTimeout(timer);
  }
}

async function refusal(response: Response): Promise<Problem> {
  const said = (await response.json().catch(() => ({}))) as Record<string, string | undefined>;
  return new Problem(response.status, said["title"] ?? response.statusText, said["detail"] ?? "", said["todo"] ?? "");
}

/** Take some events, and show what came of them at once. */
function take(blocks: string[]): void {
  let now = live.peek() ?? { cameras: new Map(), looked: new Map(), moments: new Map() };
  const fresh = new Set<string>();
  for (const block of blocks) {
    const fields = new Map(block.split("\n").map((line) => splitAt(line, ": ")));
    const data = fields.get("data");
    if (!data) continue; // a heartbeat
    lastId = fields.get("id") ?? "";
    const told: unknown = JSON.parse(data);
    switch (fields.get("event")) {
      case "all":
        now = { cameras: new Map(), looked: new Map(), moments: new Map() };
        wholeId = lastId;
        liveProblem.value = null;
        break;
      case "camera": {
        const camera = told as Camera;
        now.cameras.set(camera.name, camera);
        break;
      }
      case "gone": {
        const { camera } = told as { camera: string };
        now.cameras.delete(camera);
        now.looked.delete(camera);
        now.moments.delete(camera);
        break;
      }
      case "looked": {
        const mark = told as { camera: string; looked_ms: number };
        now.looked.set(mark.camera, mark.looked_ms);
        liveProblem.value = null;
        break;
      }
      case "moment": {
        const hit = told as Hit;
        if (lastId !== wholeId && now.moments.get(hit.camera)?.moment_id !== hit.moment_id) fresh.add(hit.camera);
        now.moments.set(hit.camera, hit);
        break;
      }
      case "problem": {
        const said = told as { status: number; title: string; detail: string; todo: string };
        liveProblem.value = new Problem(said.status, said.title, said.detail, said.todo);
        break;
      }
    }
  }
  live.value = { ...now };
  if (fresh.size) {
    news.value = new Set([...news.peek(), ...fresh]);
    setTimeout(() => {
      news.value = new Set([...news.peek()].filter((one) => !fresh.has(one)));
    }, NEW_MS);
  }
}

function splitAt(line: string, mark: string): [string, string] {
  const at = line.indexOf(mark);
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + mark.length)];
}
