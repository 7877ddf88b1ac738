// Who is logged in, where the gateway has a login. A token that was given in this tab goes before it.

import { signal } from "@preact/signals";
import { json } from "./api";

interface Session {
  /** "" when nobody is logged in. */
  name: string;
  /** Where one logs in and out; "" where there is no login. */
  login: string;
  logout: string;
}

const OVER = "/login/out";

export const session = signal<Session>({ name: "", login: "", logout: "" });

export async function learnSession(): Promise<void> {
  try {
    session.value = await json<Session>(new URL("/login/who", document.baseURI).toString());
  } catch {
    // The gateway is away: the page says so where it asks something.
  }
}

/** Where one logs in, and comes back to this page. */
export function loginAddress(): string {
  const here = window.location.pathname + window.location.search;
  return `${session.value.login}?${new URLSearchParams({ then: here })}`;
}

export async function logOut(): Promise<void> {
  const out = new URL(session.value.logout, document.baseURI).toString();
  const { at_issuer } = await json<{ at_issuer: string }>(out, { method: "POST" });
  window.location.assign(/^https?:/.test(at_issuer) ? at_issuer : OVER);
}
