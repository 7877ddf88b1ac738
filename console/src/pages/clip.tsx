// The recording of a moment, where there is one. A gateway without recordings, or a camera that is not recorded, has
// none; then nothing offers to play.

import { useEffect, useState } from "preact/hooks";
import * as api from "../api";
import { t } from "../i18n";
import type { Hit } from "../types";

/** Played from a little before the moment begins. */
const BEFORE_MS = 500;
const LONGEST_MS = 60_000;

/** The address of a clip that is there, or null: also while that is not known yet. */
export function useClip(hit: Hit | null): string | null {
  const [clip, setClip] = useState<string | null>(null);
  useEffect(() => {
    setClip(null);
    if (!hit) return undefined;
    const start = hit.start_ms - BEFORE_MS;
    const url = api.clipAddress(hit.camera, start, Math.min(Math.max(hit.end_ms, start + 2000), start + LONGEST_MS));
    const stop = new AbortController();
    api
      .ask(url, { signal: stop.signal, headers: { Range: "bytes=0-1" } })
      .then((response) => {
        const isVideo = response.headers.get("Content-Type")?.startsWith("video/");
        void response.body?.cancel();
        if (isVideo) setClip(url);
      })
      .catch(() => undefined);
    return () => stop.abort();
  }, [hit?.moment_id]);
  return clip;
}

/** Plays in place. With a token the clip is fetched whole, because a <video> cannot send one. */
export function Player({ clip, onEnd }: { clip: string; onEnd: () => void }) {
  const [url, setUrl] = useState(api.token.peek() ? "" : clip);
  useEffect(() => {
    if (url) return undefined;
    const stop = new AbortController();
    let made = "";
    api
      .ask(clip, { signal: stop.signal })
      .then((response) => response.blob())
      .then((blob) => setUrl((made = URL.createObjectURL(blob))))
      .catch(() => !stop.signal.aborted && onEnd());
    return () => {
      stop.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [clip]);
  return (
    <div class="picture player">
      {url && <video src={url} controls autoplay muted playsInline aria-label={t("play.label")} onError={onEnd} />}
    </div>
  );
}
