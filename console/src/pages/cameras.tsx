// Cameras: all of them with how they are, to add, to change and to remove.

import { useEffect } from "preact/hooks";
import * as format from "../format";
import { t } from "../i18n";
import { plainClick } from "../parts/card";
import { useEvery } from "../parts/every";
import { Icon } from "../parts/icons";
import { Command, ProblemTold } from "../parts/told";
import { format as addressOf, NEW } from "../route";
import { lookAtRecent } from "../recent";
import { go, house, houseProblem, lookAtHouse, mayChange, route } from "../state";
import type { Camera } from "../types";
import { CameraDialog } from "./camera";
import { FirstStart } from "./first";

const LOOK_EVERY_MS = 5_000;

export function CamerasPage() {
  useEvery(LOOK_EVERY_MS, () => void lookAtHouse());
  const edit = route.value.edit;
  useEffect(() => {
    // Its last picture is drawn on.
    if (edit) void lookAtRecent(new AbortController().signal);
  }, [edit]);
  // The dialog has one place whatever is behind it: a form being filled in outlasts the first camera's coming.
  return (
    <>
      {house.value && !house.value.cameras.length ? <FirstStart /> : <List />}
      {mayChange.value && edit && <CameraDialog key={edit} edit={edit} />}
    </>
  );
}

function List() {
  const cameras = (house.value?.cameras ?? []).toSorted(
    (a, b) => Number(b.watching) - Number(a.watching) || a.name.localeCompare(b.name),
  );
  return (
    <div class="page">
      <div class="page-head">
        <h1>{t("cameras")}</h1>
        {mayChange.value && (
          <button type="button" class="button main" onClick={() => go({ edit: NEW })}>
            <Icon name="plus" />
            {t("cameras.add")}
          </button>
        )}
      </div>
      {houseProblem.value && <ProblemTold problem={houseProblem.value} />}
      <ul class="house-rows">
        {cameras.map((camera) => (
          <Row key={camera.name} {...camera} />
        ))}
      </ul>
      {!mayChange.value && (
        <section class="add">
          <h2>{t("cameras.add")}</h2>
          <Command>watchword camera add gate rtsp://user:password@10.0.0.7/stream</Command>
        </section>
      )}
    </div>
  );
}

const STATES = ["live", "failing", "silent", "connecting", "disabled", "done"] as const;

function Row({ name, watching, groups, status }: Camera) {
  const known = STATES.find((one) => one === status?.state);
  const state = !watching ? "removed" : known === "live" || known === "done" ? "well" : (known ?? "unknown");
  const words = state === "removed" ? t("camera.removed_still") : status?.why || sends(status);
  const target = { ...route.value, edit: name };
  return (
    <li class="row">
      <span class="camera">{name}</span>
      <span class={`state ${state}`}>
        <span class="dot" aria-hidden="true" />
        {state === "unknown" ? t("camera.unknown") : known === "done" ? t("camera.done") : t(`camera.${state}` as const)}
      </span>
      <span class="small">{groups?.join(", ")}</span>
      <span class="small why">
        {status?.since_ms && known !== "live" ? `${t("camera.since", { time: format.moment(status.since_ms) })} ` : ""}
        {words}
        {status?.advice?.map((sentence) => <span key={sentence}> {sentence}</span>)}
      </span>
      {mayChange.value && (
        <a
          class="button"
          href={addressOf(target)}
          aria-label={t("cameras.edit", { camera: name })}
          onClick={(event) => {
            if (!plainClick(event)) return;
            event.preventDefault();
            go({ edit: name });
          }}
        >
          {t("edit")}
        </a>
      )}
    </li>
  );
}

/** What a camera sends, and how much of it is looked at. */
export function sends(status: Camera["status"]): string {
  if (!status?.width) return "";
  const rate = t("camera.rate", { got: status.fps_got.toFixed(1), wanted: status.fps_wanted.toFixed(1) });
  const bits = status.bits_per_second ? `, ${(status.bits_per_second / 1e6).toFixed(1)} Mbit/s` : "";
  return `${status.codec} ${status.width} × ${status.height}${bits}, ${rate}`;
}
