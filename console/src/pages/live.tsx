// Live: every camera with what it saw last, as it comes.

import { useState } from "preact/hooks";
import * as format from "../format";
import { t } from "../i18n";
import { live, liveProblem, news, useLive } from "../live";
import { plainClick } from "../parts/card";
import { MomentPicture } from "../parts/picture";
import { ProblemTold } from "../parts/told";
import { EMPTY, format as addressOf } from "../route";
import { go } from "../state";
import type { Camera } from "../types";
import { sends } from "./cameras";
import { FirstStart } from "./first";

/** A camera that was looked at within this is well. */
export const FRESH_MS = 60_000;

export function LivePage() {
  useLive();
  const [group, setGroup] = useState("");
  const now = live.value;
  if (now && !now.cameras.size && !liveProblem.value) return <FirstStart />;
  const all = [...(now?.cameras.values() ?? [])].toSorted(
    (a, b) => Number(b.watching) - Number(a.watching) || a.name.localeCompare(b.name),
  );
  const groups = [...new Set(all.flatMap((one) => one.groups ?? []))].toSorted();
  const cameras = groups.includes(group) ? all.filter((one) => one.groups?.includes(group)) : all;
  return (
    <div class="page">
      <div class="page-head">
        <h1>{t("live")}</h1>
        {groups.length > 0 && (
          <div class="actions" role="group" aria-label={t("edit.groups")}>
            {["", ...groups].map((one) => (
              <button
                key={one}
                type="button"
                class="chip"
                aria-pressed={one === group}
                onClick={() => setGroup(one)}
              >
                {one || t("live.all")}
              </button>
            ))}
          </div>
        )}
      </div>
      {liveProblem.value && <ProblemTold problem={liveProblem.value} />}
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
  const now = live.value;
  const hit = now?.moments.get(name);
  const looked = now?.looked.get(name) ?? 0;
  const fresh = looked >= Date.now() - FRESH_MS;
  const trouble = TROUBLES.find((one) => one === status?.state);
  const state = !watching ? "removed" : (trouble ?? (fresh ? "well" : "behind"));
  const words =
    state === "removed"
      ? t("camera.removed_still")
      : looked
       ? t("camera.looked", { time: format.moment(looked) })
       : t("camera.never");
  const target = { ...EMPTY, cameras: [name] };
  const isNew = news.value.has(name);
  return (
    <li class={isNew ? "card new" : "card"}>
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
          <div class="picture">
            <p class="no-picture">{t("camera.quiet")}</p>
          </div>
        )}
        <span class="line">
          <span class="camera">{name}</span>
          {isNew && <span class="badge">{t("live.new")}</span>}
          <span class={`state ${state}`}>
            <span class="dot" aria-hidden="true" />
            {t(`camera.${state}` as const)}
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
