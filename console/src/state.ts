// What the page is doing: where it is, what was asked, what came back.

import { batch, computed, effect, signal } from "@preact/signals";
import * as api from "./api";
import { whoAmI, type Who } from "./manage";
import { keptPicture, recall, remember } from "./keep";
import { cut, forgetPictures, take } from "./pictures";
import { asks, EMPTY, format, MOST, parse, questionKey, type Route } from "./route";
import type { Cameras, Reply } from "./types";

// ---- where the page is

export const route = signal<Route>(parse(window.location.search));

export interface Moving {
  /** Leave no step in the history: for what is no step to a person, such as leafing through hits. */
  replace?: boolean;
}

export function go(change: Partial<Route>, how: Moving = {}): void {
  const next = { ...route.value, ...change };
  if (how.replace) window.history.replaceState(window.history.state, "", format(next));
  else window.history.pushState({ inside: true }, "", format(next));
  route.value = next;
}

/** Ask something else: the filters stay, the rest of the former question goes. */
export function askFor(question: Partial<Pick<Route, "q" | "like" | "part" | "picture">>): void {
  const page = route.value.page === "when" ? "when" : "ask";
  const { q, like, part, picture, limit, moment, at } = EMPTY;
  go({ page, q, like, part, picture, limit, moment, at, ...question });
}

/** Close the open moment: one step back where opening it was a step, so that "back" does not open it again. */
export function closeMoment(): void {
  const state = window.history.state as { inside?: boolean; opened?: boolean } | null;
  if (state?.opened) window.history.back();
  else go({ moment: "", at: 0 }, { replace: true });
}

export function openMoment(moment: string, at: number): void {
  go({ moment, at });
  window.history.replaceState({ inside: true, opened: true }, "", format(route.value));
}

window.addEventListener("popstate", () => {
  route.value = parse(window.location.search);
});

// ---- the answer

export type Answer =
  | { status: "idle" }
  | { status: "loading"; before: Reply | null }
  | { status: "done"; reply: Reply; route: Route; at: number }
  | { status: "failed"; problem: api.Problem };

/** The title of a problem that is the page's own: this tab does not have the picture that is asked by. */
export const PICTURE_GONE = "picture gone";

export const answer = signal<Answer>({ status: "idle" });
/** Raised to ask the same question anew. */
export const again = signal(0);

const MOST_ON_A_TIMELINE = 500;

/** What is asked of the API: a timeline wants all of it at once, in one order. */
export function asked(at: Route): Route {
  return at.page === "when" ? { ...at, limit: MOST_ON_A_TIMELINE, order: "time" } : at;
}

const question = computed(() => {
  const now = route.value;
  if (now.page !== "ask" && now.page !== "when") return null;
  return asks(now) ? `${questionKey(asked(now))}&limit=${asked(now).limit}` : "";
});

let running: AbortController | null = null;

effect(() => {
  const key = question.value;
  void again.value;
  void api.token.value;
  if (key === null) return; // another page: the answer is kept
  running?.abort();
  if (!key) {
    answer.value = { status: "idle" };
    return;
  }
  running = new AbortController();
  void find(asked(route.peek()), running.signal);
});

async function find(now: Route, signal: AbortSignal): Promise<void> {
  const last = answer.peek();
  answer.value = {
    status: "loading",
    before: last.status === "done" && continues(last.route, now) ? last.reply : null,
  };
  try {
    const reply = await api.search(now, await pictureOf(now), signal);
    if (!signal.aborted) answer.value = { status: "done", reply, route: now, at: Date.now() };
  } catch (error) {
    if (signal.aborted) return;
    const problem = error instanceof api.Problem ? error : new api.Problem(-1, "", String(error), "");
    answer.value = { status: "failed", problem };
  }
}

/** Whether the former answer may stand while this one is awaited: the same thing is asked, filtered in another way. */
function continues(before: Route, now: Route): boolean {
  const same = (one: Route): string =>
    questionKey({ ...EMPTY, q: one.q, like: one.like, part: one.part, picture: one.picture });
  return before.page === now.page && same(before) === same(now);
}

async function pictureOf(now: Route): Promise<Blob | null> {
  if (now.like) return null;
  if (now.part) {
    const [coming, giveBack] = take(now.part.moment, now.part.at);
    try {
      return await cut((await coming).blob, now.part.box);
    } finally {
      giveBack();
    }
  }
  if (now.picture) {
    const kept = keptPicture(now.picture);
    if (!kept) throw new api.Problem(-1, PICTURE_GONE, "", "");
    return kept;
  }
  return null;
}

export function more(): void {
  go({ limit: Math.min(MOST, route.value.limit * 2) }, { replace: true });
}

// ---- cameras and kinds

export const house = signal<Cameras | null>(null);
export const houseProblem = signal<api.Problem | null>(null);

/** What the reader may do; null where that is not known, and then nothing can be changed here. */
export const me = signal<Who | null>(null);
export const mayChange = computed(() => me.value?.role === "operator" || me.value?.role === "admin");
export const isAdmin = computed(() => me.value?.role === "admin");

async function lookAtMe(): Promise<void> {
  try {
    me.value = await whoAmI();
  } catch {
    me.value = null; // a token of another role, or a gateway of another version
  }
}

export async function lookAtHouse(): Promise<void> {
  try {
    const cameras = await api.cameras();
    batch(() => {
      house.value = cameras;
      houseProblem.value = null;
    });
  } catch (error) {
    houseProblem.value = error instanceof api.Problem ? error : new api.Problem(-1, "", String(error), "");
  }
}

let former = api.token.peek();
effect(() => {
  if (api.token.value !== former) {
    former = api.token.value;
    forgetPictures();
  }
  void lookAtHouse();
  void lookAtMe();
});

// ---- saved questions

const MOST_SAVED = 50;

function readSaved(): string[] {
  try {
    const kept: unknown = JSON.parse(recall("saved") ?? "[]");
    return Array.isArray(kept) ? kept.filter((one): one is string => typeof one === "string") : [];
  } catch {
    return [];
  }
}

export const saved = signal<string[]>(readSaved());

export function toggleSaved(key: string): void {
  const others = readSaved().filter((one) => one !== key);
  const there = others.length < readSaved().length;
  saved.value = there ? others : [key, ...others].slice(0, MOST_SAVED);
  remember("saved", JSON.stringify(saved.value));
}

/** The parts of the page a token can be refused for, asked again. */
export function refresh(): void {
  again.value += 1;
  void lookAtHouse();
}

// ---- light and dark

export type Theme = "system" | "light" | "dark";
const kept = recall("theme");
export const theme = signal<Theme>(kept === "light" || kept === "dark" ? kept : "system");

effect(() => {
  if (theme.value === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme.value;
  remember("theme", theme.value === "system" ? null : theme.value);
});
