// The first start: an empty house, and the way to the first camera.

import { useEffect } from "preact/hooks";
import { t } from "../i18n";
import { Command } from "../parts/told";
import { lookAtHouse } from "../state";

const LOOK_EVERY_MS = 3000;

export function FirstStart() {
  useEffect(() => {
    const timer = setInterval(() => void lookAtHouse(), LOOK_EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <div class="first">
      <h1>{t("first.title")}</h1>
      <p class="lead">{t("first.lead")}</p>
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
