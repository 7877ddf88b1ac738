import { useEffect } from "preact/hooks";

/** Do something now and again while the page is looked at; its signal is aborted when it is no longer wanted. */
export function useEvery(ms: number, what: (signal: AbortSignal) => void): void {
  useEffect(() => {
    const stop = new AbortController();
    const now = (): void => {
      if (document.visibilityState === "visible") what(stop.signal);
    };
    now();
    const timer = setInterval(now, ms);
    document.addEventListener("visibilitychange", now);
    return () => {
      stop.abort();
      clearInterval(timer);
      document.removeEventListener("visibilitychange", now);
    };
  }, []);
}
