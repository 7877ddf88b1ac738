// Live: every camera with what it saw last, and how fresh that is.

import * as format from "../format";
import { t } from "../i18n";
import { plainClick } from "../parts/card";
import { useEvery } from "../parts/every";
import { MomentPicture } from "../parts/picture";
import { ProblemTold } from "../parts/told";
import { EMPTY, format as addressOf } from "../route";
import { lookAtRecent, recent, recentProblem } from "../recent";
import { go, house, houseProblem, lookAtHouse } from "../state";
import type { Camera } from "../types";
import { sends } from "./cameras";
import { FirstStart } from "./first";

const LOOK_EVERY_MS = 15_000;
/** A camera that was looked at within this is well. */
export const FRESH_MS = 60_000;

export function LivePage() {
  useEvery(LOOK_EVERY_MS, (signal) => {
    void lookAtHouse();
    void lookAtRecent(signal);
  });
  if (house.value && !house.value.cameras.length) return <FirstStart />;
  const cameras = (house.value?.cameras ?? []).toSorted(
    (a, b) => Number(b.watching) - Number(a.watching) || a.name.localeCompare(b.name),
  );
  const problem = houseProblem.value ?? recentProblem.value;
  return (
    <div class="page">
      <h1>{t("live")}</h1>
      {problem && <ProblemTold problem={problem} />}
      <ul class="wall cameras">
        {cameras.map((camera) => (
          <CameraCard key={camera.name} {...camera} />
        ))}
      </ul>
    </div>
  );
}

/** What the camera process says that is more than "live": it explains why nothing was looked at. */
const TROUBLES = ["failing", "silent", "connecting", "disabled"] as const;

function CameraCard({ name, watching, groups, status }: Camera) {
  const now = recent.value;
  const hit = now?.last.get(name);
  const mark = now?.reply.coverage.watermarks.find((one) => one.camera === name);
  const looked = mark?.looked_ms ?? 0;
  const fresh = Boolean(now && looked >= now.at - FRESH_MS);
  const trouble = TROUBLES.find((one) => one === status?.state);
  const state = !watching ? "removed" : (trouble ?? (fresh ? "well" : now ? "behind" : "unknown"));
  const words =
    state === "removed"
      ? t("camera.removed_still")
      : looked
       ? t("camera.looked", { time: format.moment(looked) })
       : now
        ? t("camera.never")
        : "";
  const target = { ...EMPTY, cameras: [name] };
  return (
    <li class="card">
      <a
        class="open"
        href={addressOf(target)}
        onClick={(event) => {
          if (!plainClick(event)) return;
          event.preventDefault();
          go(target);
          setTimeout(() => document.getElementById("question")?.focus());
        }}
      >
        {hit ? (
          <MomentPicture moment={hit.moment_id} at={hit.at_ms} alt="" />
        ) : (
          <div class={now ? "picture" : "picture waiting"}>
            {now && <p class="no-picture">{t("camera.quiet")}</p>}
          </div>
        )}
        <span class="line">
          <span class="camera">{name}</span>
          <span class={`state ${state}`}>
            <span class="dot" aria-hidden="true" />
            {state === "unknown" ? "" : t(`camera.${state}` as const)}
          </span>
        </span>
        <span class="line small">{words}</span>
        {Boolean(groups?.length) && <span class="line small">{groups?.join(", ")}</span>}
        {trouble && status?.since_ms ? (
          <span class="line small why">
            {t("camera.since", { time: format.moment(status.since_ms) })}
            {status.why && `: ${status.why}`}
          </span>
        ) : (
          sends(status) && <span class="line small">{sends(status)}</span>
        )}
        {status?.advice?.map((sentence) => (
          <span class="line small why" key={sentence}>
            {sentence}
          </span>
        ))}
      </a>
    </li>
  );
}
