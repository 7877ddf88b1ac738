// The first start: an empty house, and the way to the first camera.

import { useEffect, useState } from "preact/hooks";
import { Problem } from "../api";
import { t } from "../i18n";
import { addDemo } from "../manage";
import { Command, ProblemTold } from "../parts/told";
import { NEW } from "../route";
import { go, lookAtHouse, mayChange, me } from "../state";

const LOOK_EVERY_MS = 3000;

export function FirstStart() {
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(() => {
    const timer = setInterval(() => void lookAtHouse(), LOOK_EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  const demo = (): void => {
    addDemo().then(
      () => lookAtHouse(),
      (error: unknown) => setProblem(error instanceof Problem ? error : new Problem(-1, "", String(error), "")),
    );
  };
  return (
    <div class="first">
      <h1>{t("first.title")}</h1>
      <p class="lead">{t(mayChange.value ? "first.lead_here" : "first.lead")}</p>
      {problem && <ProblemTold problem={problem} onRetry={demo} />}
      {mayChange.value && (
        <p class="actions">
          <button type="button" class="button main" onClick={() => go({ page: "cameras", edit: NEW })}>
            {t("cameras.add")}
          </button>
          {Boolean(me.value?.demo.length) && (
            <button type="button" class="button" onClick={demo}>
              {t("first.demo_here")}
            </button>
          )}
        </p>
      )}
      <ol class="steps">
        <li>
          <h2>{t("first.camera")}</h2>
          <Command>watchword camera add gate rtsp://user:password@10.0.0.7/stream</Command>
          <p class="hint">{t("first.camera_hint")}</p>
        </li>
        <li>
          <h2>{t("first.file")}</h2>
          <Command>watchword camera add yard clip.mp4 --loop</Command>
        </li>
        <li>
          <h2>{t("first.demo")}</h2>
          <Command>make demo</Command>
          <p class="hint">{t("first.demo_hint")}</p>
        </li>
      </ol>
      <p class="waiting-for" role="status">
        <span class="dot pulse" aria-hidden="true" />
        {t("first.waiting")}
      </p>
    </div>
  );
}
