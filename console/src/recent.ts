// What the cameras saw last, and how fresh they are.

import { signal } from "@preact/signals";
import * as api from "./api";
import { EMPTY } from "./route";
import type { Hit, Reply } from "./types";

const BACK = "10m";
const MOST = 300;

export interface Recent {
  at: number;
  reply: Reply;
  /** The latest moment of each camera. */
  last: Map<string, Hit>;
}

export const recent = signal<Recent | null>(null);
export const recentProblem = signal<api.Problem | null>(null);

/** Every moment of the last minutes. The words do not matter: nothing is left out within so short a time. */
export async function lookAtRecent(signal: AbortSignal): Promise<void> {
  try {
    const route = { ...EMPTY, q: "a picture", since: BACK, order: "time" as const, all: true, limit: MOST };
    const reply = await api.search(route, null, signal);
    const last = new Map<string, Hit>();
    for (const hit of reply.hits) if ((last.get(hit.camera)?.end_ms ?? 0) <= hit.end_ms) last.set(hit.camera, hit);
    recent.value = { at: Date.now(), reply, last };
    recentProblem.value = null;
  } catch (error) {
    if (!signal.aborted && error instanceof api.Problem) recentProblem.value = error;
  }
}
