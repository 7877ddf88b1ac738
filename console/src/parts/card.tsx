// One answer on the wall.

import * as format from "../format";
import { kindName, t } from "../i18n";
import { format as addressOf } from "../route";
import { askFor, openMoment, route } from "../state";
import type { Hit } from "../types";
import { Icon } from "./icons";
import { MomentPicture, momentAlt } from "./picture";

/** "person, car ×2": what was seen in it. */
export function objectWords(hit: Hit): string {
  return hit.objects
    .map(({ kind, count }) => (count > 1 ? `${kindName(kind)} ×${count}` : kindName(kind)))
    .join(", ");
}

/** A plain click moves inside the page; any other is the browser's: a new tab, a download. */
export function plainClick(event: MouseEvent): boolean {
  return event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
}

export function HitCard({ hit, weak }: { hit: Hit; weak: boolean }) {
  const time = format.moment(hit.at_ms || hit.peak_ms);
  const seen = objectWords(hit);
  const long = hit.end_ms - hit.start_ms;
  return (
    <li class="card">
      <a
        class="open"
        data-moment={hit.moment_id}
        href={addressOf({ ...route.value, moment: hit.moment_id, at: hit.at_ms })}
        onClick={(event) => {
          if (!plainClick(event)) return;
          event.preventDefault();
          openMoment(hit.moment_id, hit.at_ms);
        }}
      >
        <MomentPicture moment={hit.moment_id} at={hit.at_ms} box={hit.box} alt={momentAlt(hit, time)} weak={weak}>
          {!hit.closed && <span class="badge">{t("going_on")}</span>}
        </MomentPicture>
        <span class="meter" aria-hidden="true">
          <Meter share={hit.confidence} />
        </span>
        <span class="line">
          <span class="camera">{hit.camera}</span>
          <span class="sure" title={t("sure.title")}>
            {format.percent(hit.confidence)}
          </span>
        </span>
        <span class="line small">
          <time dateTime={new Date(hit.at_ms || hit.peak_ms).toISOString()}>{time}</time>
          {long >= 1000 && <span class="long">{format.lasts(long)}</span>}
          {seen && (
            <span class="seen" title={seen}>
              {seen}
            </span>
          )}
        </span>
      </a>
      <button
        type="button"
        class="round more-like"
        aria-label={t("like.of", { camera: hit.camera, time })}
        title={t("like")}
        onClick={() => askFor({ like: hit.moment_id })}
      >
        <Icon name="like" />
      </button>
    </li>
  );
}

/** How sure, as the length of a line. */
function Meter({ share }: { share: number }) {
  return (
    <svg viewBox="0 0 100 1" preserveAspectRatio="none">
      <rect width={Math.max(0, Math.min(1, share)) * 100} height="1" />
    </svg>
  );
}
